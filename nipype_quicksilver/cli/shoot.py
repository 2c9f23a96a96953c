"""`quicksilver shoot`: compute displacement fields from a momentum."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from nipype_quicksilver.cli import common, outputs

_DESCRIPTION = """\
Compute the displacement fields at the end of the geodesic of an initial momentum, in both
directions. They are on the working grid of the momentum, and are interpolated linearly.
"""
_EPILOG = """\
Example:
  quicksilver shoot --momentum registration/momentum.nii.gz --output-dir geodesic

Files in the output folder (all of them, or none if the run fails):
  displacement.nii.gz          ITK field from fixed to moving points: warps the moving image
  inverse_displacement.nii.gz  ITK field from moving to fixed points: warps the fixed image
  log_jacobian.nii.gz          logarithm of the Jacobian determinant of displacement.nii.gz
  summary.json                 energies, folded voxels, versions, seconds
The momentum and these fields do not include an affine that preceded the registration.
"""

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "shoot",
        summary="compute displacement fields from a momentum",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--momentum",
        type=Path,
        required=True,
        metavar="FILE",
        help="momentum that 'register' or 'optimize' wrote",
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder, created if needed"
    )
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    from nipype_quicksilver.registration.shooting import FILES

    return [args.output_dir / name for name in FILES]


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration.shooting import FILES, shoot_file

    with outputs.output_folder(args, record=FILES[-1]):
        common.start_itk(args)
        summary = shoot_file(args.momentum, args.output_dir, common.start_torch(args))
    _logger.info(
        "energy %.4g, %d folded voxels; wrote %s",
        summary.energy.initial,
        summary.jacobian.folded,
        args.output_dir,
    )
    return 0
