"""`quicksilver report`: write HTML reports of single registrations or of a group."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from nipype_quicksilver.cli import common, messages
from nipype_quicksilver.errors import InputError

_DESCRIPTION = """\
Write an HTML report of each registration: images before and after, checkerboard, labels, deformed
grid, log-Jacobian, uncertainty, measures, warnings, a paragraph on methods for a paper, and the
provenance. With --group, write one report of all registrations instead: a sortable table, outliers
and distributions, with links to the single reports. All pictures are embedded in the page.
"""
_EPILOG = """\
Example:
  quicksilver report out                             writes out/report.html
  quicksilver report sub-*/ && quicksilver report sub-*/ --group group.html
"""


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "report",
        summary="write HTML reports of registrations",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="output folder of 'quicksilver register'",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="report of a single registration (default: report.html in its folder)",
    )
    parser.add_argument(
        "--group",
        dest="output_group",
        type=Path,
        metavar="FILE",
        help="report of all registrations, to write instead; it links to their report.html",
    )
    for name in ("fixed", "moving"):
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"{name} image of a single registration, if it was moved since the registration",
        )
    parser.set_defaults(run=run, writes=_writes)


def _writes(args: argparse.Namespace) -> list[Path]:
    """Return the reports in the folders of their registrations."""
    if args.output is not None or args.output_group is not None:
        return []
    return [folder / "report.html" for folder in dict.fromkeys(args.folders)]


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    _check_usage(args)
    common.start_itk(args)
    for page in _pages(args):
        if not args.quiet:
            print(messages.shown(page))
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    several = len(args.folders) > 1 or args.output_group is not None
    for name in ("output", "fixed", "moving"):
        if several and getattr(args, name) is not None:
            raise InputError(f"--{name} is for the report of a single registration; leave it out")


def _pages(args: argparse.Namespace) -> Iterator[Path]:
    """Write the reports; yield the path of each when it is written."""
    from nipype_quicksilver.reports import write_group_report, write_registration_report
    from nipype_quicksilver.reports.folder import read_summary

    if args.output_group is not None:
        yield write_group_report(args.folders, args.output_group)
        return
    for folder in args.folders:
        read_summary(folder)  # fails before anything is drawn
    for folder in args.folders:
        yield write_registration_report(folder, args.output, fixed=args.fixed, moving=args.moving)
