"""`python -m nipype_quicksilver`: the `quicksilver` command of this interpreter."""

import os
import signal
import sys
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the command line and return its exit code, also when its imports are interrupted."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from nipype_quicksilver.cli.main import main as run
    from nipype_quicksilver.execution.processes import end_descendants

    code = run()
    if code > 128:  # ended by a signal, which only this process may have got
        end_descendants()
    for number in _SIGNALS:  # the result is complete: only the interpreter has to end
        signal.signal(number, signal.SIG_IGN)
    return code


def _end(number: int, _: FrameType | None) -> None:
    """End at once: nothing was begun yet."""
    os.write(2, b"quicksilver: error: interrupted before it began\n")
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
