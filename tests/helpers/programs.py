"""Programs that stand for external tools."""

#: A program that prints what it does, and fails.
FAILING = """#!/bin/sh
for number in 1 2 3 4 5; do echo "step $number"; done
echo 'no licence was found' >&2
exit 3
"""
