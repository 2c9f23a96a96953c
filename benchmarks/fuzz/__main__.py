"""Fuzz the readers of files: ``python -m benchmarks.fuzz``."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.fuzz.readers import READERS
from benchmarks.fuzz.running import OUTCOMES, fuzz_all
from benchmarks.tables import show


def main() -> int:
    """Run the readers, print a table, and return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}")
    parser.add_argument(
        "--inputs", type=int, default=10_000, help="inputs of each (default: 10000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--processes", type=int, default=2, help="at a time (default: 2)")
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="folder of the counts, from which a stopped run is resumed (default: temporary)",
    )
    args = parser.parse_args()
    unknown = set(args.readers) - set(READERS)
    if unknown:
        parser.error(f"unknown reader {', '.join(sorted(unknown))}")
    table = Table("reader", *OUTCOMES)
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work_dir or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        names = args.readers or list(READERS)
        for name, state in fuzz_all(names, args.inputs, args.seed, work, args.processes):
            counts = [state["counts"].get(outcome, 0) for outcome in OUTCOMES]
            table.add_row(name, *map(str, counts))
            wrong += sum(counts[2:])
            print(name, dict(zip(OUTCOMES, counts, strict=True)), flush=True)
    show(table)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
