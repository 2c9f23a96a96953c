"""The peer greedy (Yushkevich et al.): ``python -m nipype_quicksilver.evaluation.greedy``.

It is GPL software and no dependency: the program where it is on the PATH, else the package
`picsl-greedy`, which this module runs as a program.
"""

import shlex
import shutil
import sys
from importlib.util import find_spec

#: How two brains are compared, and the iterations of each level.
METRIC = ("-m", "NCC", "2x2x2", "-n", "100x50x10")


def greedy_command() -> tuple[str, ...] | None:
    """Return the words that start greedy, or None where it is not installed."""
    if (program := shutil.which("greedy")) is not None:
        return (program,)
    if find_spec("picsl_greedy") is not None:
        return (sys.executable, "-m", "nipype_quicksilver.evaluation.greedy")
    return None


if __name__ == "__main__":
    from picsl_greedy import Greedy3D

    arguments = sys.argv[1:]
    if arguments[:2] == ["-d", "3"]:  # the program is told; the package knows
        arguments = arguments[2:]
    Greedy3D().execute(shlex.join(arguments))
