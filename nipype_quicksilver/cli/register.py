"""`quicksilver register`: register a moving image to a fixed image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli import apply, common, options
from nipype_quicksilver.options import DEFAULT_METHOD, METHODS, check_method
from nipype_quicksilver.workflows import external

if TYPE_CHECKING:
    from nipype_quicksilver.registration import Registration

#: The names that `nipype_quicksilver.registration.alignment` knows.
BRAIN_EXTRACTIONS = ("deepbet", "none")
#: Interpolations of images; labels are warped as labels.
INTERPOLATIONS = tuple(
    name for name in apply.INTERPOLATIONS if name not in ("GenericLabel", "MultiLabel")
)

_DESCRIPTION = """\
Register a moving image to a fixed image, and write both directions of the transform, the warped
images and measures. Images are T1-weighted heads as they come from a scanner, or brains without
skull, which are recognised and left alone. Any grid, voxel size and orientation will do. Brains are
found by deepbet's network, and aligned by an affine; masks and affines that there are already are
used instead.
"""
_EPILOG = """\
Example:
  quicksilver register --fixed fixed_T1w.nii.gz --moving moving_T1w.nii.gz --output-dir out
  quicksilver register --fixed MNI152 --moving T1w.nii.gz --output-dir out
  quicksilver register --fixed fixed_brain.nii.gz --moving moving_brain.nii.gz \\
      --brain-extraction none --affine affine.mat --output-dir out

Files in the output folder (all of them, or none where something fails):
  warped.nii.gz, inverse_warped.nii.gz  moving image on the fixed grid, fixed on the moving grid
  composite.h5, inverse_composite.h5    ITK transforms of points, fixed to moving and back, with
                                        the affine: for 'quicksilver apply' or antsApplyTransforms
  displacement.nii.gz, inverse_displacement.nii.gz
                                        the same as ITK displacement fields on the native grids
  log_jacobian.nii.gz                   of the displacement, on the fixed grid
  momentum.nii.gz                       for 'quicksilver shoot' and '--initial-momentum'
  summary.json                          versions, parameters, measures, seconds
  warped_labels.nii.gz                  with --moving-labels
  uncertainty.nii.gz                    with --samples: how far off the displacement may be, mm
  uncertainty_components.nii.gz         with --uncertainty-components: variances along x, y, z, mm^2
"""


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "register",
        summary="register a moving image to a fixed image",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    options.add_images(parser, "a head or a brain (NIfTI, MGH), or MNI152 for the template")
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder; made if needed"
    )
    parser.add_argument(
        "--moving-labels",
        type=Path,
        metavar="FILE",
        help="label map of the moving image, to be warped",
    )
    parser.add_argument(
        "--fixed-labels",
        type=Path,
        metavar="FILE",
        help="label map of the fixed image, to measure the overlap with --moving-labels",
    )
    parser.add_argument(
        "--brain-extraction",
        choices=BRAIN_EXTRACTIONS + external.BRAIN_EXTRACTIONS,
        default="deepbet",
        help="how brains without mask are found: by deepbet; by FSL's BET, FreeSurfer's SynthStrip "
        "or AFNI's 3dSkullStrip, where they are installed; none: what is not zero is brain. Images "
        "without skull are left alone (default: deepbet)",
    )
    parser.add_argument(
        "--affine",
        default="simpleitk",
        metavar="simpleitk|" + "|".join(external.AFFINES) + "|none|FILE",
        help="how the images are aligned first: simpleitk finds an affine, or greedy, ANTs, "
        "NiftyReg or FSL's FLIRT, where they are installed; none leaves it to the headers; FILE is "
        "an ITK affine that maps fixed to moving points (default: simpleitk)",
    )
    parser.add_argument(
        "--template",
        default="auto",
        metavar="auto|MNI152|FILE|none",
        help="on whose grid of 1 mm the images are compared: that of a template, to which another "
        "affine aligns the fixed image; none: in the world of the fixed image; auto: MNI152, but "
        "none where --affine is none or FILE, or the brains do not fit it (default: auto)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=DEFAULT_METHOD,
        help="where the momentum comes from: predict, by a network (LP); correct, with a second "
        "network that corrects it (LPC); refine, optimised from there; optimize, by optimisation "
        f"only (LO) (default: {DEFAULT_METHOD})",
    )
    parser.add_argument(
        "--corrections",
        type=common.positive_int,
        metavar="N",
        help="times that a prediction is corrected, for correct and refine (default: 1)",
    )
    options.add_networks(parser)
    parser.add_argument(
        "--uncertainty-components",
        action="store_true",
        help="with --samples: also write the variances along x, y and z",
    )
    options.add_settings(parser)
    parser.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        default="Linear",
        metavar="NAME",
        help="of the warped images: " + ", ".join(INTERPOLATIONS) + " (default: Linear)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration import register
    from nipype_quicksilver.spatial.folders import check_output_dir

    check_output_dir(args.output_dir)
    common.start_itk(args)
    device = common.start_torch(args)
    check_method(args.method, similarity=args.similarity, iterations=args.iterations)
    settings = None
    if args.method in ("refine", "optimize"):
        settings = options.chosen_settings(args, "refine" if args.method == "refine" else "full")
    ways = external.chosen(args)
    with common.work_dir(args) as folder, options.shown_progress(args) as progress:
        registration = register(
            args.fixed,
            args.moving,
            **{name: getattr(args, name) for name in options.mask_names()},
            fixed_labels=args.fixed_labels,
            moving_labels=args.moving_labels,
            **ways,
            template=args.template,
            method=args.method,
            settings=settings,
            prediction_network=args.prediction_network,
            correction_network=args.correction_network,
            corrections=args.corrections,
            samples=args.samples,
            uncertainty_components=args.uncertainty_components,
            interpolation=args.interpolation,
            device=device,
            seed=args.seed,
            progress=progress,
            work_dir=None if args.work_dir is None else folder,
        )
    registration.summary["command"] = args.command_line
    registration.save(args.output_dir)
    if not args.quiet:
        _print_table(registration, args.output_dir)
    return 0


def _print_table(registration: Registration, output_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    summary: dict[str, Any] = registration.summary
    table = Table("", "before", "after", title="Registration")
    rows = {"local correlation": summary["similarity"]}
    if "labels" in summary:
        rows["Dice of labels"] = {
            when: overlap["mean"]["dice"] for when, overlap in summary["labels"].items()
        }
    for name, row in rows.items():
        table.add_row(name, f"{row['before']:.4f}", f"{row['after']:.4f}")
    table.add_section()
    folds = summary["jacobian"]
    table.add_row("folded voxels", "", f"{folds['folded']} ({folds['folded_percent']:.4f}%)")
    table.add_row("inverse consistency, mm", "", f"{summary['inverse_consistency_mm']['mean']:.4f}")
    table.add_row("seconds", "", f"{summary['seconds']['total']:.1f}")
    console = Console()
    console.print(table)
    # Not in the table, whose cells would break a long path.
    console.print(f"Files: {output_dir}", markup=False, highlight=False, soft_wrap=True)
