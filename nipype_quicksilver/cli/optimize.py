"""`quicksilver optimize`: find the momentum that warps one prepared image onto another."""

from __future__ import annotations

import argparse
from pathlib import Path

from nipype_quicksilver.cli import common, options
from nipype_quicksilver.options import SCHEDULES

_DESCRIPTION = """\
Find the initial momentum of the geodesic that warps a moving image onto a fixed one. Both images
are on one working grid (isotropic, RAS, dimensions a multiple of 8) with intensities from 0 to
about 1, as the nodes ConformToGrid and NormalizeIntensity make them; masks may be on any grid in
the same world space. 'quicksilver register' does all of that itself.
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
        summary="find the momentum between two prepared images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    options.add_images(parser, "on the working grid, normalised")
    options.add_momentum_outputs(parser)
    parser.add_argument(
        "--initial-momentum",
        type=Path,
        metavar="FILE",
        help="momentum to start from, of which kernel and time steps are kept; stages on coarser "
        "grids than its own are left out",
    )
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="full",
        help="full: from coarse to fine; refine: a few fine iterations from a predicted momentum, "
        "as 'register --method refine' has them (default: full)",
    )
    options.add_settings(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration.conformed import optimize_files

    options.check_momentum_outputs(args)
    common.start_itk(args)
    device = common.start_torch(args)
    settings = options.chosen_settings(args, args.schedule)
    masks = {name: getattr(args, name) for name in options.mask_names()}
    with options.shown_progress(args) as progress:
        result = optimize_files(
            args.fixed,
            args.moving,
            masks=masks,
            initial_momentum=args.initial_momentum,
            settings=settings,
            device=device,
            seed=args.seed,
            progress=progress,
        )
    options.write_found(args, result)
    options.log_momentum(args, result)
    return 0
