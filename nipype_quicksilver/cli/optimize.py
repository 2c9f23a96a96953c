"""`quicksilver optimize`: find the momentum that warps one prepared image onto another."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common, fitting
from nipype_quicksilver.errors import QuicksilverError

if TYPE_CHECKING:
    from nipype_quicksilver.registration.conformed import Optimized

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

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "optimize",
        summary="find the momentum between two prepared images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    fitting.add_images(parser, "on the working grid, normalised")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="momentum (.nii, .nii.gz)"
    )
    parser.add_argument(
        "--initial-momentum",
        type=Path,
        metavar="FILE",
        help="momentum to start from, of which kernel and time steps are kept; stages before "
        "the first one on its grid are left out",
    )
    fitting.add_settings(parser)
    parser.add_argument(
        "--output-json", type=Path, metavar="FILE", help="also write how it went (.json)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration.conformed import optimize_files

    common.check_output(args.output, (".nii", ".nii.gz"))
    if args.output_json is not None:
        common.check_output(args.output_json, (".json",))
    common.start_itk(args)
    device = common.start_torch(args)
    settings = fitting.chosen_settings(args)
    masks = {name: getattr(args, name) for name in fitting.mask_names()}
    with fitting.shown_progress(args) as progress:
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
    _write(args, result)
    similarity = result.summary["similarity"]
    _logger.info(
        "local correlation %.4f before, %.4f after; wrote %s",
        similarity["before"],
        similarity["after"],
        args.output,
    )
    return 0


def _write(args: argparse.Namespace, result: Optimized) -> None:
    """Write momentum and summary, or neither."""
    from nipype_quicksilver.spatial.files import staged, write_json
    from nipype_quicksilver.spatial.momentum import write_momentum

    with staged(args.output) as temporary:
        try:
            write_momentum(temporary, result.momentum)
        except QuicksilverError as error:
            # The user knows the file by its final name.
            message = str(error).replace(str(temporary), str(args.output))
            raise type(error)(message) from error
        if args.output_json is not None:
            write_json(args.output_json, result.summary)
