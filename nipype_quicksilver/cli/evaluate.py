"""`quicksilver evaluate`: measure one registration, or compare methods on many pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli import common, comparing
from nipype_quicksilver.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

_DESCRIPTION = """\
Measure a registration: how well the labels of the fixed image and the warped labels of the moving
image overlap, and how regular a displacement field is. Either or both.

With --pairs or --dataset: register many pairs of labelled images by several methods, and compare
these by target overlap, folds, distance to the optimisation (LO) and time, in tables and figures.
All start from the same affine; labels are warped by nearest neighbour.
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
A comparison that was interrupted goes on where it was, if it had a --work-dir.
"""
_OVERLAP_COLUMNS = ("dice", "jaccard", "target_overlap", "target_mm3", "source_mm3")


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "evaluate",
        summary="measure a registration, or compare methods on many pairs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    group = parser.add_argument_group("one registration")
    for name, text in (
        ("fixed-labels", "labels of the fixed image"),
        ("warped-labels", "labels of the moving image, resampled onto the fixed image's grid"),
        ("displacement", "displacement field (5-D NIfTI)"),
        ("mask", "count only the displacement's voxels in this mask, which is on its grid"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    group.add_argument(
        "--output-json",
        type=Path,
        metavar="FILE",
        help="write the numbers to this file too (with --quiet, to this file only)",
    )
    single = [action.dest for action in group._group_actions]
    parser.set_defaults(run=run, single=single, compared=comparing.add_options(parser))


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    compares = args.pairs is not None or args.dataset is not None
    _check_use(args, compares)
    if compares:
        return comparing.run(args)
    _check_usage(args)
    common.start_itk(args)
    results: dict[str, Any] = {}
    if args.fixed_labels is not None:
        results["label_overlap"] = _label_overlap(args.fixed_labels, args.warped_labels)
    if args.displacement is not None:
        results["jacobian"] = _jacobian(args.displacement, args.mask)
    if args.output_json is not None:
        from nipype_quicksilver.spatial.files import write_json

        write_json(args.output_json, results)
    if not (args.quiet and args.output_json is not None):
        _print_tables(results)
    return 0


def _check_use(args: argparse.Namespace, compares: bool) -> None:
    """Refuse an option that belongs to the other use."""
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


def _label_overlap(fixed: Path, warped: Path) -> dict[str, Any]:
    from nipype_quicksilver.spatial import images, measures

    return measures.label_overlap(
        images.read_labels(fixed, what="fixed labels"),
        images.read_labels(warped, what="warped labels"),
    )


def _jacobian(displacement: Path, mask: Path | None) -> dict[str, Any]:
    import numpy as np

    from nipype_quicksilver.spatial import images, measures, transforms
    from nipype_quicksilver.spatial.grids import Grid

    field, grid = transforms.read_displacement(displacement)
    if mask is None:
        return measures.jacobian_summary(field, grid)
    inside = images.read_mask(mask)
    if not Grid.from_image(inside).equals(grid, tol=1e-2):
        raise InputError(
            f"{mask}: not on the grid of {displacement}; resample it with "
            "'quicksilver apply --interpolation NearestNeighbor'"
        )
    return measures.jacobian_summary(field, grid, np.asanyarray(inside.dataobj))


def _print_tables(results: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if "label_overlap" in results:
        console.print(_overlap_table(results["label_overlap"]))
    if "jacobian" in results:
        console.print(_jacobian_table(results["jacobian"]))


def _overlap_table(overlap: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("label", *_OVERLAP_COLUMNS, title="Overlap of labels")
    rows = {**overlap["labels"], "mean": overlap["mean"], "total": overlap["total"]}
    for label, row in rows.items():
        if label == "mean":
            table.add_section()
        table.add_row(str(label), *(_cell(row, column) for column in _OVERLAP_COLUMNS))
    return table


def _cell(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return "-" if column in row else ""
    return f"{value:.0f}" if column.endswith("mm3") else f"{value:.4f}"


def _jacobian_table(summary: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("", "value", title="Jacobian determinant of the displacement field")
    table.add_row("voxels", str(summary["voxels"]))
    table.add_row("folded voxels", f"{summary['folded']} ({summary['folded_percent']:.4f}%)")
    table.add_row("smallest determinant", f"{summary['minimum']:.4f}")
    table.add_section()
    for name, value in summary["log_jacobian"].items():
        table.add_row(f"log determinant, {name}", "-" if value is None else f"{value:.4f}")
    return table
