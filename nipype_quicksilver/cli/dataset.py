"""`quicksilver dataset`: pairs and their optimised momenta, for training the paper's networks."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from nipype_quicksilver.cli import common, outputs

_DESCRIPTION = """\
Build a data set of pairs of images and their optimised momenta, for 'quicksilver train --momenta'.
Images are on working grids and normalised, as for 'quicksilver optimize', which writes the momenta.

With --prediction, the data set is for the correction network of that prediction network: the
target is carried back to the moving image by the predicted momentum, and the network learns the
difference between the optimised and the predicted momentum.
"""
_EPILOG = """\
Example:
  quicksilver dataset --fixed a.nii.gz b.nii.gz --moving b.nii.gz a.nii.gz \\
      --momenta ab_momentum.nii.gz ba_momentum.nii.gz --output-dir dataset
"""

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "dataset",
        summary="build a data set of pairs and their momenta for training",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    for option, text in (
        ("--fixed", "fixed image of each pair"),
        ("--moving", "moving image of each pair, in the same order"),
        ("--momenta", "momentum of each pair, in the same order"),
    ):
        parser.add_argument(option, type=Path, nargs="+", required=True, metavar="FILE", help=text)
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder; created if needed"
    )
    parser.add_argument(
        "--prediction",
        type=Path,
        metavar="CHECKPOINT",
        help="patch network whose momenta are corrected",
    )
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    from nipype_quicksilver.training.momentum_dataset import files_of

    return [args.output_dir / name for name in files_of(len(args.momenta))]


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.training.momentum_dataset import build_momentum_dataset

    with outputs.output_folder(args):
        common.start_itk(args)
        build_momentum_dataset(
            args.fixed,
            args.moving,
            args.momenta,
            args.output_dir,
            prediction=args.prediction,
            device=common.start_torch(args),
            progress=lambda done, number: _logger.info("pair %d of %d", done, number),
        )
    return 0
