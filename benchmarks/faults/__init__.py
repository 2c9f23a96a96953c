"""Faults in mid-run: interruptions, kills, and two runs into one folder."""
