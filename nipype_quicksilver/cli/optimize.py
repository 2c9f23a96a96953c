"""`quicksilver optimize`: optimise the momentum that warps one prepared image onto another."""

from __future__ import annotations

import argparse
from pathlib import Path

from nipype_quicksilver.cli import arguments, common
from nipype_quicksilver.cli.progress import registration_progress
from nipype_quicksilver.steps import BRAIN_FILES, SCHEDULE

_DESCRIPTION = """\
Optimise the initial momentum of the geodesic that warps a moving image onto a fixed image. Both
images are on one working grid (isotropic, RAS, dimensions a multiple of 8) with intensities from 0
to about 1, as written by the nodes ConformToGrid and NormalizeIntensity; masks may be on any grid
in the same world space. 'quicksilver register' includes this preparation.
"""
_EPILOG = """\
Example:
  quicksilver optimize --fixed fixed_conformed.nii.gz --moving moving_conformed.nii.gz \\
      --output momentum.nii.gz --output-json momentum.json
"""


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "optimize",
        summary="optimise the momentum between two prepared images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    arguments.add_images(parser, "on the working grid, normalised", BRAIN_FILES)
    arguments.add_momentum_outputs(parser)
    parser.add_argument(
        "--initial-momentum",
        type=Path,
        metavar="FILE",
        help="momentum to start from; its kernel and time steps are kept, and stages on coarser "
        "grids than its own are skipped",
    )
    common.add_option(parser, SCHEDULE)
    arguments.add_options(parser, ("similarity", "iterations"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration.conformed import optimize_files
    from nipype_quicksilver.registration.method import choose_settings

    arguments.check_momentum_outputs(args)
    common.start_itk(args)
    device = common.start_torch(args)
    settings = choose_settings(args.schedule, args.similarity, args.iterations)
    with registration_progress(args.quiet) as progress:
        result = optimize_files(
            arguments.scan_files(args, "fixed"),
            arguments.scan_files(args, "moving"),
            initial_momentum=args.initial_momentum,
            settings=settings,
            device=device,
            seed=args.seed,
            progress=progress,
        )
    arguments.write_momentum_result(args, result)
    return 0
