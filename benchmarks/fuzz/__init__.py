"""Fuzzing: every reader of files gets damaged files, and has to end in a value or in one line.

``python -m benchmarks.fuzz --work-dir fuzz`` runs all readers. Each input is made from a valid file
by a seed, so that the same command makes the same inputs, and a run that was stopped goes on where
it was. Inputs are read by a process of their own with limited memory, which is killed when it takes
too long.
"""
