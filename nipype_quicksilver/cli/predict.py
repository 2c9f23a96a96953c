"""`quicksilver predict`: predict the momentum that warps one prepared image onto another."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import arguments, common
from nipype_quicksilver.cli.progress import registration_progress
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.steps import BRAIN_FILES, CORRECTIONS

if TYPE_CHECKING:
    from nipype_quicksilver.registration.conformed import MomentumResult

_DESCRIPTION = """\
Predict the initial momentum of the geodesic that warps a moving image onto a fixed image, by a
prediction network and a correction network. Both images are on one working grid (isotropic, RAS,
dimensions a multiple of 8) with intensities from 0 to about 1, as written by the nodes
ConformToGrid and NormalizeIntensity; masks may be on any grid in the same world space. 'quicksilver
register' includes this preparation.
"""
_EPILOG = """\
Example:
  quicksilver predict --fixed fixed_conformed.nii.gz --moving moving_conformed.nii.gz \\
      --output momentum.nii.gz --output-json momentum.json
"""

_OPTIONS = ("prediction_network", "correction_network", "samples")


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "predict",
        summary="predict the momentum between two prepared images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    arguments.add_images(parser, "on the working grid, normalised", BRAIN_FILES)
    arguments.add_momentum_outputs(parser)
    common.add_option(parser, CORRECTIONS)
    arguments.add_options(parser, _OPTIONS)
    for option, text in (
        ("--output-uncertainty", "also write the uncertainty, in mm, on the working grid"),
        ("--output-uncertainty-components", "also write its variances along x, y and z, in mm^2"),
    ):
        parser.add_argument(option, type=Path, metavar="FILE", help=f"{text}; with --samples")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration.conformed import predict_files

    arguments.check_momentum_outputs(args)
    for file in (args.output_uncertainty, args.output_uncertainty_components):
        if file is not None:
            common.check_output(file, (".nii", ".nii.gz"))
            if args.samples is None:
                raise InputError(f"{file}: there is no uncertainty without samples; give --samples")
    common.start_itk(args)
    device = common.start_torch(args)
    with registration_progress(args.quiet) as progress:
        result = predict_files(
            arguments.scan_files(args, "fixed"),
            arguments.scan_files(args, "moving"),
            arguments.chosen_options(args, (*_OPTIONS, "seed")),
            corrections=args.corrections,
            device=device,
            progress=progress,
        )
    arguments.write_momentum_result(args, result, _uncertainties(args, result))
    return 0


def _uncertainties(
    args: argparse.Namespace, result: MomentumResult
) -> dict[Path, arguments.Writer]:
    """Return the functions that write the requested files of the uncertainty, by path."""
    from nipype_quicksilver.spatial.images import write_image
    from nipype_quicksilver.spatial.measures import standard_deviation

    if result.variance is None:
        return {}
    variance, affine = result.variance, result.momentum.working_grid.affine
    contents = {
        args.output_uncertainty: standard_deviation(variance),
        args.output_uncertainty_components: variance,
    }
    return {
        file: partial(write_image, data=data, affine=affine)
        for file, data in contents.items()
        if file is not None
    }
