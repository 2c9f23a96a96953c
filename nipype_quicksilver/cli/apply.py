"""`quicksilver apply`: apply transforms to images, label maps, series, points or surfaces."""

from __future__ import annotations

import argparse
import logging
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nipype_quicksilver.cli import common
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import APPLY_INTERPOLATIONS, LABEL_PRESERVING

if TYPE_CHECKING:
    import SimpleITK as sitk

IMAGE_SUFFIXES = (".nii", ".nii.gz")
POINTS_SUFFIXES = (".csv", ".tsv", ".gii")
_INPUTS = (*IMAGE_SUFFIXES, ".mgh", ".mgz", ".img", ".img.gz", ".hdr", ".hdr.gz", *POINTS_SUFFIXES)

_DESCRIPTION = """\
Resample an image, a label map or a 4-D series onto the grid of a reference, or map the points of
a CSV or TSV file or the vertices of a GIFTI surface. The transforms are composed first, so that
an image is interpolated only once.
"""
_EPILOG = """\
Transforms: ITK affines (.mat, .txt, .tfm), composites (.h5) and displacement fields (5-D NIfTI).
  Repeat --transform for several of them, in the order of antsApplyTransforms: the last one is
  applied to the image first ("--transform warp.nii.gz --transform affine.mat"). A point of the
  reference is mapped by the first one, then by the second one, and so on.
  "[FILE,1]" is the inverse of an affine; "[FILE,0]" is FILE. Displacement fields and composites
  are not inverted: give the file of the inverse transform instead.

Direction: to warp the moving image to the fixed image, give the composite transform, which maps
  fixed points to moving points, and the fixed image as reference. To map points of the moving
  image to the fixed image, give the inverse composite transform, which maps moving points to
  fixed points.

Points: a CSV or TSV file whose first line names its columns, among them x, y and z in millimetres;
  other columns are copied. Coordinates are RAS+ as in NIfTI; with --points-frame lps, input and
  output are as in ITK and ANTs (x and y with the opposite sign). Electrodes of BIDS
  (x_electrodes.tsv) are such a file; those whose position is n/a are copied.

Surfaces: a GIFTI file (.surf.gii), whose vertices are mapped as points. They are scanner RAS,
  unless the metadata say otherwise (FreeSurfer's surface RAS, a coordinate matrix); those of the
  output are scanner RAS. The rest is copied.

Label tables: if a table of the same name is next to a label map (BIDS: x_dseg.nii.gz and
  x_dseg.tsv), it is copied next to the output.
"""

_logger = logging.getLogger(__name__)


class TransformOption(NamedTuple):
    """One `--transform`: a file, and whether to invert it."""

    path: Path
    invert: bool


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "apply",
        summary="apply transforms to images, label maps, series or points",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="FILE",
        help="image, label map or 4-D series (NIfTI, MGH), points (.csv, .tsv) or a surface (.gii)",
    )
    parser.add_argument(
        "--transform",
        type=transform_option,
        action="append",
        required=True,
        dest="transforms",
        metavar="FILE|[FILE,1]",
        help="a transform or, as [FILE,1], its inverse; may be repeated, in ANTs' order",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="image (.nii, .nii.gz); points and surfaces have the suffix of the input",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="image onto whose grid the input is resampled; required for images",
    )
    parser.add_argument(
        "--interpolation",
        choices=APPLY_INTERPOLATIONS,
        metavar="NAME",
        help="for images: " + ", ".join(APPLY_INTERPOLATIONS) + " (default: Linear); labels need "
        "GenericLabel or NearestNeighbor, which keep the data type",
    )
    parser.add_argument(
        "--default-value",
        type=partial(common.number, allowed=math.isfinite, what="a finite number"),
        metavar="VALUE",
        help="for images: value outside the input (default: 0)",
    )
    parser.add_argument(
        "--points-frame",
        choices=("ras", "lps"),
        help="for points: frame of the coordinates (default: ras)",
    )
    parser.set_defaults(run=run)


def transform_option(text: str) -> TransformOption:
    """Parse `FILE`, `[FILE]`, `[FILE,0]` or `[FILE,1]`."""
    if not text.startswith("["):
        return TransformOption(Path(text), invert=False)
    file, comma, flag = text[1:-1].rpartition(",")
    if not comma:
        file, flag = flag, "0"
    if not text.endswith("]") or not file.strip() or flag.strip() not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a transform: give FILE or '[FILE,1]'")
    return TransformOption(Path(file.strip()), invert=flag.strip() == "1")


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    suffix = args.input.suffix.lower()
    is_points = suffix in POINTS_SUFFIXES
    _check_usage(args, is_points)
    common.check_output(args.output, (suffix,) if is_points else IMAGE_SUFFIXES)
    common.start_itk(args)
    from nipype_quicksilver.spatial import applying

    transform = applying.join_transforms(
        [option.path for option in args.transforms], [option.invert for option in args.transforms]
    )
    if suffix == ".gii":
        _apply_to_surface(args, transform)
    elif is_points:
        _apply_to_points(args, transform)
    else:
        applying.apply_to_image(
            args.input,
            args.reference,
            args.output,
            transform,
            interpolation=args.interpolation or "Linear",
            default_value=args.default_value or 0.0,
        )
        _copy_label_table(args)
    _logger.info("wrote %s", args.output)
    return 0


def _check_usage(args: argparse.Namespace, is_points: bool) -> None:
    if not args.input.name.lower().endswith(_INPUTS):
        kinds = "an image (.nii, .nii.gz, .mgz), points (.csv, .tsv) or a surface (.gii)"
        raise InputError(f"{args.input}: its suffix is not that of {kinds}; convert it first")
    if not is_points and args.reference is None:
        raise InputError(f"{args.input}: give the image with the grid of the output by --reference")
    of_images = ("reference", "interpolation", "default_value")
    for name in of_images if is_points else ("points_frame",):
        if getattr(args, name) is not None:
            kind, other = ("points", "images") if is_points else ("an image", "points")
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{args.input}: contains {kind}; leave out {option}, it is for {other}"
            )


def _apply_to_surface(args: argparse.Namespace, transform: sitk.Transform) -> None:
    from nipype_quicksilver.spatial import transforms
    from nipype_quicksilver.spatial.surfaces import map_surface

    if args.points_frame == "lps":
        raise InputError(f"{args.input}: vertices of a surface are RAS; leave out --points-frame")
    map_surface(args.input, args.output, lambda points: transforms.map_points(transform, points))


def _copy_label_table(args: argparse.Namespace) -> None:
    """Copy the table of names that is next to a label map."""
    from nipype_quicksilver.spatial.files import label_table, staged

    if args.interpolation not in LABEL_PRESERVING:
        return
    table, copy = (label_table(path) for path in (args.input, args.output))
    if not table.is_file() or table == copy:
        return
    if not copy.exists():
        with staged(copy) as temporary:
            temporary.write_bytes(table.read_bytes())
        _logger.info("wrote %s", copy)
    elif not copy.is_file() or copy.read_bytes() != table.read_bytes():
        _logger.warning("%s: differs from %s, the table of the labels; it is left", copy, table)


def _apply_to_points(args: argparse.Namespace, transform: sitk.Transform) -> None:
    import numpy as np

    from nipype_quicksilver.spatial import transforms
    from nipype_quicksilver.spatial.files import staged
    from nipype_quicksilver.spatial.points import read_points

    table = read_points(args.input)
    to_ras = np.array([-1.0, -1.0, 1.0] if args.points_frame == "lps" else [1.0, 1.0, 1.0])
    mapped = transforms.map_points(transform, table.coordinates() * to_ras) * to_ras
    with staged(args.output) as path:
        table.with_coordinates(mapped).write(path)
