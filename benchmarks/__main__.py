"""Run benchmarks: ``python -m benchmarks [NAME ...]``; default: all of them."""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not burn CPU time

from benchmarks import (
    affine,
    cohort,
    extraction,
    gpu,
    heads,
    judging,
    manual,
    multiatlas,
    plugins,
    prediction,
    registration,
    repeatability,
    restarts,
    series,
    shooting,
    sizes,
    uncertainty,
)
from benchmarks.faults import cohorts, moves
from nipype_quicksilver.spatial.files import write_json

BENCHMARKS = {
    "manual": manual.measure,
    "manual-cc": manual.measure_with_slow,
    "registration": registration.measure,
    "prediction": prediction.measure,
    "shooting": shooting.measure,
    "shooting-resolved": shooting.measure_resolved,
    "uncertainty": uncertainty.measure,
    "repeatability": repeatability.measure,
    "extraction": extraction.measure,
    "affine": affine.measure,
    "heads": heads.measure,
    "sizes": sizes.measure,
    "judging": judging.measure,
    "rigid": judging.measure_rigid,
    "multiatlas": multiatlas.measure,
    "series": series.measure,
    "series-whole": series.measure_whole,
    "cohort": cohort.measure,
    "restarts": restarts.measure,
    "plugins": plugins.measure,
    "faults-cohorts": cohorts.measure,
    "gpu": gpu.measure,
    "faults": moves.measure,
}


def main() -> None:
    """Run the requested benchmarks, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--runs", type=int, default=3, help="number of runs (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="number of threads (default: 2)")
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="folder in which images and results are kept, and images reused (default: temporary)",
    )
    args = parser.parse_args()
    unknown = set(args.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work_dir or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for name in args.names or BENCHMARKS:
            figures = BENCHMARKS[name](work, args.runs, args.threads)
            write_json(work / f"{name}.json", figures)


if __name__ == "__main__":
    main()
