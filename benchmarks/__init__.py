"""Measurements of accuracy, speed and memory: ``python -m benchmarks --help``."""
