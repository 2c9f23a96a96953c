"""Tables, read."""

import csv


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
