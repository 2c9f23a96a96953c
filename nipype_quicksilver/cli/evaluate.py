"""`quicksilver evaluate`: evaluate a registration, or compare methods on many pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common, comparing
from nipype_quicksilver.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from nipype_quicksilver.spatial.jacobians import JacobianSummary
    from nipype_quicksilver.spatial.measures import Overlap, OverlapSummary

_DESCRIPTION = """\
Evaluate a registration: the overlap of the labels of the fixed image with the warped labels of the
moving image, the regularity of a displacement field, or both.

With --pairs or --dataset: register many pairs of labelled images with several methods, and compare
target overlap, folds, distance to the optimisation (LO) and time, in tables and figures. All
methods start from the same affine; labels are warped by nearest neighbour.
"""
_EPILOG = """\
Examples:
  quicksilver evaluate --fixed-labels fixed_dseg.nii.gz --warped-labels warped_labels.nii.gz
  quicksilver evaluate --pairs pairs.tsv --methods LP LPC LO --output-dir out --work-dir work
  quicksilver evaluate --dataset CUMC12 /data/CUMC12 --max-pairs 20 --output-dir out --work-dir work

Both label maps must be on one grid: warp labels with
'quicksilver apply --interpolation GenericLabel --reference FIXED'.
A displacement field is folded at a voxel where any of the eight Jacobian determinants from
one-sided differences is not positive.
An interrupted comparison is resumed if it has a --work-dir.
"""
_OVERLAP_COLUMNS = ("dice", "jaccard", "target_overlap", "target_mm3", "source_mm3")


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "evaluate",
        summary="evaluate a registration, or compare methods on many pairs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    group = parser.add_argument_group("one registration")
    for name, text in (
        ("fixed-labels", "labels of the fixed image"),
        ("warped-labels", "labels of the moving image, resampled onto the fixed image's grid"),
        ("displacement", "displacement field (5-D NIfTI)"),
        ("mask", "evaluate the displacement field in this mask only, which must be on its grid"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    group.add_argument(
        "--output-json",
        type=Path,
        metavar="FILE",
        help="also write the results to this file (with --quiet, only to this file)",
    )
    single = [action.dest for action in group._group_actions]
    compared = comparing.add_options(parser)
    parser.set_defaults(run=run, writes=comparing.writes, single=single, compared=compared)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    compares = args.pairs is not None or args.dataset is not None
    _check_use(args, compares)
    if compares:
        return comparing.run(args)
    _check_usage(args)
    common.start_itk(args)
    overlap, jacobian = None, None
    if args.fixed_labels is not None:
        overlap = _label_overlap(args.fixed_labels, args.warped_labels)
    if args.displacement is not None:
        jacobian = _jacobian(args.displacement, args.mask)
    if args.output_json is not None:
        from nipype_quicksilver.spatial.files import write_json
        from nipype_quicksilver.spatial.records import as_json

        results = {"label_overlap": overlap, "jacobian": jacobian}
        write_json(
            args.output_json,
            {name: as_json(result) for name, result in results.items() if result is not None},
        )
    if not (args.quiet and args.output_json is not None):
        _print_tables(overlap, jacobian)
    return 0


def _check_use(args: argparse.Namespace, compares: bool) -> None:
    """Refuse an option of the other use of the command."""
    for name in args.single if compares else args.compared:
        if getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            other = "one registration" if compares else "a comparison (--pairs, --dataset)"
            raise InputError(f"{option} is for {other}; leave it out")


def _check_usage(args: argparse.Namespace) -> None:
    if (args.fixed_labels is None) != (args.warped_labels is None):
        raise InputError("--fixed-labels and --warped-labels are compared: give both")
    if args.fixed_labels is None and args.displacement is None:
        raise InputError(
            "nothing to evaluate: give --fixed-labels and --warped-labels, or --displacement; or "
            "--pairs or --dataset"
        )
    if args.mask is not None and args.displacement is None:
        raise InputError("--mask is for a displacement field: give --displacement too")
    if args.output_json is not None:
        common.check_output(args.output_json, (".json",))


def _label_overlap(fixed: Path, warped: Path) -> OverlapSummary:
    from nipype_quicksilver.spatial import images, measures

    return measures.label_overlap(
        images.read_labels(fixed, what="fixed labels"),
        images.read_labels(warped, what="warped labels"),
    )


def _jacobian(displacement: Path, mask: Path | None) -> JacobianSummary:
    import numpy as np

    from nipype_quicksilver.spatial import images, jacobians, transforms
    from nipype_quicksilver.spatial.grids import Grid

    field, grid = transforms.read_displacement(displacement)
    if mask is None:
        return jacobians.jacobian_summary(field, grid)
    inside = images.read_mask(mask)
    if not Grid.from_image(inside).equals(grid, tol=1e-2):
        raise InputError(
            f"{mask}: not on the grid of {displacement}; resample it with "
            "'quicksilver apply --interpolation NearestNeighbor'"
        )
    return jacobians.jacobian_summary(field, grid, np.asanyarray(inside.dataobj))


def _print_tables(overlap: OverlapSummary | None, jacobian: JacobianSummary | None) -> None:
    from rich.console import Console

    console = Console()
    if overlap is not None:
        console.print(_overlap_table(overlap))
    if jacobian is not None:
        console.print(_jacobian_table(jacobian))


def _overlap_table(overlap: OverlapSummary) -> Table:
    from rich.table import Table

    table = Table("label", *_OVERLAP_COLUMNS, title="Overlap of labels")
    rows: dict[str, Overlap] = {
        **overlap.labels,
        "mean": overlap.mean,
        "total": overlap.total,
    }
    for label, row in rows.items():
        if label == "mean":
            table.add_section()
        table.add_row(label, *(_cell(row, column) for column in _OVERLAP_COLUMNS))
    return table


def _cell(row: Overlap, column: str) -> str:
    if not hasattr(row, column):
        return ""  # means and totals have no volumes
    value = getattr(row, column)
    if value is None:
        return "-"
    return f"{value:.0f}" if column.endswith("mm3") else f"{value:.4f}"


def _jacobian_table(summary: JacobianSummary) -> Table:
    from rich.table import Table

    table = Table("", "value", title="Jacobian determinant of the displacement field")
    table.add_row("voxels", str(summary.voxels))
    table.add_row("folded voxels", f"{summary.folded} ({summary.folded_percent:.4f}%)")
    table.add_row("smallest determinant", f"{summary.minimum:.4f}")
    table.add_section()
    for name, value in summary.log_jacobian.items():
        table.add_row(f"log determinant, {name}", "-" if value is None else f"{value:.4f}")
    return table
