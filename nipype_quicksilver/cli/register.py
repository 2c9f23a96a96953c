"""`quicksilver register`: register a moving image to a fixed image."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import arguments, common, messages, outputs
from nipype_quicksilver.cli.progress import registration_progress
from nipype_quicksilver.options import DEFORMABLE, SCAN_FILES

if TYPE_CHECKING:
    from nipype_quicksilver.registration import Registration

_DESCRIPTION = """\
Register a moving image to a fixed image, and write the transform in both directions, the warped
images and measures. The images are T1-weighted heads or brains without skull, of any grid, voxel
size and orientation. Brains are extracted and aligned by an affine, unless masks and an affine are
given; an image without skull is recognised.
"""
_EPILOG = """\
Example:
  quicksilver register --fixed fixed_T1w.nii.gz --moving moving_T1w.nii.gz --output-dir out
  quicksilver register --fixed MNI152 --moving T1w.nii.gz --output-dir out
  quicksilver register --fixed T1w.nii.gz --moving T2w.nii.gz --transform rigid --output-dir out
  quicksilver register --fixed fixed_brain.nii.gz --moving moving_brain.nii.gz \\
      --brain-extraction none --affine affine.mat --output-dir out

Files in the output folder (all of them, or none if the run fails):
  warped.nii.gz, inverse_warped.nii.gz  moving image on the fixed grid, fixed on the moving grid
  composite.h5, inverse_composite.h5    ITK transforms of points, fixed to moving and moving to
                                        fixed, affine included, for 'quicksilver apply' or
                                        antsApplyTransforms
  displacement.nii.gz, inverse_displacement.nii.gz
                                        the same as ITK displacement fields on the native grids
  log_jacobian.nii.gz                   log of its Jacobian determinant, on the fixed grid
  momentum.nii.gz                       for 'quicksilver shoot', '--initial-momentum'; zero without
                                        a deformation
  summary.json                          versions, parameters, measures, warnings, seconds
  warped_labels.nii.gz                  with --moving-labels
  uncertainty.nii.gz                    with --samples: estimated error of the displacement, mm
  uncertainty_components.nii.gz         with --uncertainty-components: its squares along x, y, z
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
    note = "a head or a brain (NIfTI, MGH), or MNI152 for the template"
    arguments.add_images(parser, note, SCAN_FILES)
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder, created if needed"
    )
    arguments.add_options(parser)
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    from nipype_quicksilver.registration.results import FILES

    return [args.output_dir / name for name in FILES.values()]


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.registration import register
    from nipype_quicksilver.registration.results import FILES

    with outputs.output_folder(args, record=FILES["summary"]):
        common.start_itk(args)
        device = common.start_torch(args)
        with common.work_dir(args) as folder, registration_progress(args.quiet) as progress:
            registration = register(
                args.fixed,
                args.moving,
                **{name: getattr(args, name) for name in SCAN_FILES},
                device=device,
                progress=progress,
                work_dir=None if args.work_dir is None else folder,
                **arguments.chosen_options(args),
            )
        summary = replace(registration.summary, command=args.command_line)
        registration = replace(registration, summary=summary)
        registration.save(args.output_dir)
    if not args.quiet:
        _print_table(registration, args.output_dir)
    return 0


def _print_table(registration: Registration, output_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = registration.summary
    transform = summary.parameters.transform
    # Before is after the affine: without a deformation nothing comes after it.
    columns = {"before": "before", "after": "after"}
    if transform != DEFORMABLE:
        columns = {"after": f"after the {transform} transform"}
    table = Table("", *columns.values(), title="Registration")
    table.add_row(
        "local correlation", *(f"{getattr(summary.similarity, name):.4f}" for name in columns)
    )
    if summary.labels is not None:
        means = (getattr(summary.labels, name).mean for name in columns)
        table.add_row("Dice of labels", *(f"{mean.dice:.4f}" for mean in means))
    table.add_section()
    empty, folds = [""] * (len(columns) - 1), summary.jacobian
    table.add_row("folded voxels", *empty, f"{folds.folded} ({folds.folded_percent:.4f}%)")
    table.add_row("inverse consistency, mm", *empty, f"{summary.inverse_consistency_mm.mean:.4f}")
    table.add_row("seconds", *empty, f"{summary.seconds['total']:.1f}")
    console = Console()
    console.print(table)
    messages.print_path("Files", output_dir)
