"""`quicksilver demo`: register a pair of brains whose deformation is known."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import arguments, common, messages, outputs
from nipype_quicksilver.cli.progress import registration_progress

if TYPE_CHECKING:
    from nipype_quicksilver.demo.outcome import LargestError, Numbers

RESOLUTIONS = (1, 2)  # mm

_DESCRIPTION = """\
Run an example registration, which takes about a minute on two cores and needs no data. The moving
brain is the MNI152 template that is installed with nilearn. The fixed brain is the same brain,
deformed along a random geodesic, with another contrast, a bias field and noise. They are registered
as by 'quicksilver register', and the result is compared with the true deformation.
"""
_EPILOG = """\
Files in the output folder (all of them, or none if the run fails):
  demo.png                              picture of the result
  demo.json                             measures, as in the table that is printed
  fixed.nii.gz, moving.nii.gz           the brains, with fixed_labels.nii.gz and
                                        moving_labels.nii.gz (1 CSF, 2 gray, 3 white matter)
  true_displacement.nii.gz              the true displacement, on a grid of 3 mm
  true_momentum.nii.gz                  its initial momentum, for 'quicksilver shoot'
  and the files of 'quicksilver register'
"""

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "demo",
        summary="register two brains whose deformation is known, and draw the result",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("quicksilver-demo"),
        metavar="DIR",
        help="output folder, created if needed (default: quicksilver-demo)",
    )
    parser.add_argument(
        "--resolution",
        type=int,
        choices=RESOLUTIONS,
        default=RESOLUTIONS[0],
        help="voxel size of the two brains, mm (default: 1)",
    )
    arguments.add_options(parser, ("method",))
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    from nipype_quicksilver.demo.files import NAMES

    return [args.output_dir / name for name in NAMES]


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration.results import FILES

    with outputs.output_folder(args, record=FILES["summary"]):
        numbers = _run(args)
    if not args.quiet:
        _print_numbers(numbers, args.output_dir)
    return 0


def _run(args: argparse.Namespace) -> Numbers:
    common.start_itk(args)
    device = common.start_torch(args)
    from nipype_quicksilver.demo.files import save
    from nipype_quicksilver.demo.phantom import load_template, make_pair
    from nipype_quicksilver.demo.run import run_demo
    from nipype_quicksilver.execution.provenance import Clock

    clock = Clock()
    with common.work_dir(args) as folder:
        _logger.info("deforming the brain along a random geodesic (seed %d)", args.seed)
        with clock.part("make the pair"):
            pair = make_pair(load_template(args.resolution), args.seed, device)
            inputs = pair.write(folder)
        _logger.info("registering the two brains (method %s)", args.method)
        with registration_progress(args.quiet) as progress:
            outcome = run_demo(
                pair,
                inputs,
                method=args.method,
                device=device,
                seed=args.seed,
                progress=progress,
                clock=clock,
            )
        _logger.info("drawing and writing")
        return save(outcome, args.output_dir, inputs)


def _print_numbers(numbers: Numbers, output_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from nipype_quicksilver.demo.files import PICTURE

    table = Table("", title="A known deformation, recovered")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    error = numbers.error_mm
    for key, name in (("mean", "mean"), ("p95", "95th percentile"), ("max", "largest")):
        row = (f"{getattr(error[when], key):.2f}" for when in ("before", "after"))
        table.add_row(f"error of the map, mm: {name}", *row)
    table.add_section()
    correlation, dice = numbers.local_correlation, numbers.dice
    for tissue in dice["before"]:
        row = (f"{dice[when][tissue]:.3f}" for when in ("before", "after"))
        table.add_row(f"Dice of {tissue}", *row)
    row = (f"{correlation[when]:.3f}" for when in ("before", "after"))
    table.add_row("local correlation", *row)
    table.add_row("folded voxels", "", str(numbers.jacobian.folded))
    table.add_section()
    for part, seconds in numbers.seconds.items():
        table.add_row(f"seconds: {part}", "", f"{seconds:.1f}")
    console = Console()
    console.print(table)
    print(_describe_largest(numbers.largest_error))
    messages.print_path("Picture", output_dir / PICTURE)


def _describe_largest(largest: LargestError) -> str:
    """Describe where the largest error is, and why errors of this size remain."""
    place = ", ".join(
        f"{axis} = {mm:+.0f}" for axis, mm in zip("xyz", largest.position_mm, strict=True)
    )
    return (
        f"The largest error, {largest.error_mm:.1f} mm, is at {place} mm: in "
        f"{largest.tissue}, {largest.border_mm:.0f} mm from the nearest border.\n"
        "The images do not determine the deformation deep inside a uniform tissue, and only weakly "
        "where neighbouring folds of the cortex are similar."
    )
