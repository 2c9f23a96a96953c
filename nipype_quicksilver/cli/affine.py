"""`quicksilver affine`: align a moving image to a fixed image by an affine."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common
from nipype_quicksilver.options import AFFINE_SUFFIXES, DOF, NONE, SIDES
from nipype_quicksilver.steps import AFFINE_ESTIMATION, BRAIN_FILES

if TYPE_CHECKING:
    from nipype_quicksilver.cli.arguments import Writer
    from nipype_quicksilver.preprocessing.affine import Aligned

_DESCRIPTION = """\
Estimate the affine transform between two brains, without skull or with brain masks, of the same
contrast or of different contrasts. World spaces and orientations of the images may differ. The
result does not depend on the number of threads, and exchanging the images inverts it.
"""
_EPILOG = """\
Example:
  quicksilver affine --fixed MNI152 --moving brain.nii.gz --output affine.mat

The transform maps points of the fixed image to points of the moving image, as in ANTs and ITK. Use
it in 'quicksilver register --affine affine.mat' or 'quicksilver apply --transform affine.mat'.
"""

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "affine",
        summary="align a moving image to a fixed image by an affine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--fixed",
        type=Path,
        required=True,
        metavar="FILE|MNI152",
        help="fixed image, a brain (NIfTI, MGH), or MNI152 for the template",
    )
    parser.add_argument(
        "--moving", type=Path, required=True, metavar="FILE", help="moving image, a brain"
    )
    for side in SIDES:
        common.add_option(parser, BRAIN_FILES[f"{side}_mask"])
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"ITK transform, fixed to moving points ({', '.join(AFFINE_SUFFIXES)})",
    )
    parser.add_argument(
        "--dof",
        type=int,
        choices=sorted(DOF),
        default=next(iter(DOF)),
        help=f"degrees of freedom; {'; '.join(f'{n}: {text}' for n, text in sorted(DOF.items()))} "
        f"(default: {next(iter(DOF))})",
    )
    common.add_option(parser, AFFINE_ESTIMATION)
    parser.add_argument(
        "--initial",
        type=Path,
        metavar="FILE",
        help="ITK affine to start from (default: many rotations about the centres of the brains)",
    )
    parser.add_argument(
        "--output-inverse", type=Path, metavar="FILE", help="also write the inverse transform"
    )
    parser.add_argument(
        "--output-image",
        type=Path,
        metavar="FILE",
        help="also write the moving image on the fixed image's grid (.nii, .nii.gz)",
    )
    parser.add_argument(
        "--output-json", type=Path, metavar="FILE", help="also write a summary (.json)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    for path, suffixes in (
        (args.output, AFFINE_SUFFIXES),
        (args.output_inverse, AFFINE_SUFFIXES),
        (args.output_image, (".nii", ".nii.gz")),
        (args.output_json, (".json",)),
    ):
        if path is not None:
            common.check_output(path, suffixes)
    common.start_itk(args)
    from nipype_quicksilver.preprocessing.affine import align_files
    from nipype_quicksilver.preprocessing.templates import template_file
    from nipype_quicksilver.tools import check_dof, check_tools

    check_tools(NONE, args.affine)
    check_dof(args.affine, args.dof)
    with common.work_dir(args) as folder:
        aligned = align_files(
            template_file(args.fixed, folder),
            args.moving,
            fixed_mask=args.fixed_mask,
            moving_mask=args.moving_mask,
            initial=args.initial,
            dof=args.dof,
            num_threads=args.num_threads,
            by=args.affine,
            log_dir=args.work_dir,
        )
    _write(args, aligned)
    similarity, measured = aligned.alignment.summary.similarity, ""
    if similarity is not None:
        measured = (
            f"mutual information {similarity.before:.4f} before, {similarity.after:.4f} after; "
        )
    _logger.info("%swrote %s", measured, args.output)
    return 0


def _write(args: argparse.Namespace, aligned: Aligned) -> None:
    """Write the requested outputs, all or none."""
    import numpy as np

    from nipype_quicksilver.spatial import files, grids, images, records, resampling, transforms

    matrix = aligned.alignment.matrix
    writers: dict[Path, Writer] = {args.output: partial(transforms.write_affine, matrix=matrix)}
    if args.output_inverse is not None:
        inverse = np.linalg.inv(matrix)
        writers[args.output_inverse] = partial(transforms.write_affine, matrix=inverse)
    if args.output_image is not None:
        fixed = aligned.fixed
        warped = resampling.resample(
            aligned.moving, grids.Grid.from_image(fixed), transforms.affine_transform(matrix)
        )
        writers[args.output_image] = partial(
            images.write_image, data=warped, affine=fixed.affine, like=fixed
        )
    if args.output_json is not None:
        inputs = {
            name: None if getattr(args, name) is None else str(getattr(args, name))
            for name in ("fixed", "moving", "fixed_mask", "moving_mask", "initial")
        }
        summary = {"inputs": inputs, **records.as_json(aligned.alignment.summary)}
        record = {**summary, "matrix": matrix}
        writers[args.output_json] = partial(files.write_json, obj=record)
    files.write_together(writers)
