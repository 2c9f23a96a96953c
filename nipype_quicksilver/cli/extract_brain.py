"""`quicksilver extract-brain`: extract the brain from an image of a head."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nipype_quicksilver.cli import common
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import NONE
from nipype_quicksilver.steps import BRAIN_EXTRACTION

_DESCRIPTION = """\
Extract the brain from a T1-weighted image of a head, of any orientation and resolution, by deepbet,
which is installed with this package, or by an external tool. An image without skull is not changed.
"""
_EPILOG = """\
Example:
  quicksilver extract-brain --input head.nii.gz --output-mask mask.nii.gz --output brain.nii.gz
"""

_IMAGES = (".nii", ".nii.gz")
_REMARKS = {
    "stripped": "has no skull, and is not changed",
    "resampled": "has no skull; only traces of interpolation around the brain are removed",
    "given": "has a mask, which is used unchanged",
}

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "extract-brain",
        summary="extract the brain from an image of a head",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--input", type=Path, required=True, metavar="FILE", help="T1-weighted image (NIfTI, MGH)"
    )
    parser.add_argument(
        "--output-mask", type=Path, metavar="FILE", help="brain mask (.nii, .nii.gz)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="image, zero outside the brain (.nii, .nii.gz)"
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="existing brain mask, on any grid, to use instead of an extraction",
    )
    common.add_option(parser, BRAIN_EXTRACTION)
    _add_mask_options(parser)
    parser.add_argument(
        "--output-json", type=Path, metavar="FILE", help="summary with the volume (.json)"
    )
    parser.set_defaults(run=run)


def _add_mask_options(parser: argparse.ArgumentParser) -> None:
    """Add `--threshold` and `--n-dilate`."""
    parser.add_argument(
        "--threshold",
        type=partial(common.number, allowed=lambda value: 0 < value < 1, what="between 0 and 1"),
        default=0.5,
        metavar="P",
        help="smallest probability of a brain voxel; lower gives a larger mask (default: 0.5)",
    )
    parser.add_argument(
        "--n-dilate",
        type=int,
        default=0,
        metavar="N",
        help="layers of voxels to add to the mask, or to remove if negative (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    if args.output is None and args.output_mask is None:
        raise InputError("nothing to write: give --output-mask, --output or both")
    for path in (args.output, args.output_mask):
        if path is not None:
            common.check_output(path, _IMAGES)
    if args.output_json is not None:
        common.check_output(args.output_json, (".json",))
    common.start_itk(args)
    device = common.start_torch(args)
    import numpy as np

    from nipype_quicksilver.preprocessing.brain import extract_file, masked
    from nipype_quicksilver.spatial.files import write_json, write_together
    from nipype_quicksilver.spatial.images import write_image
    from nipype_quicksilver.spatial.records import as_json
    from nipype_quicksilver.tools import check_tools

    check_tools(args.brain_extraction, NONE)
    image, extraction = extract_file(
        args.input,
        mask=args.mask,
        threshold=args.threshold,
        n_dilate=args.n_dilate,
        device=device,
        by=args.brain_extraction,
        num_threads=args.num_threads,
        log_dir=args.work_dir,
    )
    summary, writers = extraction.summary, dict[Path, Callable[[Path], object]]()
    if args.output_json is not None:
        inputs = {"input": str(args.input), "mask": None if args.mask is None else str(args.mask)}
        record = {"inputs": inputs, **as_json(summary)}
        writers[args.output_json] = partial(write_json, obj=record)
    write = partial(write_image, affine=image.affine, like=image)
    if args.output is not None:
        brain = masked(image, extraction.mask)
        writers[args.output] = partial(write, data=np.asanyarray(brain.dataobj))
    if args.output_mask is not None:
        writers[args.output_mask] = partial(write, data=np.asanyarray(extraction.mask.dataobj))
    write_together(writers)
    if summary.how in _REMARKS:
        _logger.info("%s: %s", args.input, _REMARKS[summary.how])
    written = " and ".join(str(p) for p in (args.output_mask, args.output) if p is not None)
    _logger.info("brain of %.0f ml; wrote %s", summary.volume_ml, written)
    return 0
