"""Run the program greedy from the package picsl-greedy, by ``python -m`` and its arguments."""

import shlex
import sys

if __name__ == "__main__":
    from picsl_greedy import Greedy3D

    arguments = sys.argv[1:]
    if arguments[:2] == ["-d", "3"]:  # the package supports three dimensions only
        arguments = arguments[2:]
    Greedy3D().execute(shlex.join(arguments))
