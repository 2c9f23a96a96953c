"""`quicksilver report`: pages that show registrations, one by one or as a group."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from nipype_quicksilver.cli import common
from nipype_quicksilver.errors import InputError

_DESCRIPTION = """\
Write a page (HTML) for each registration: before and after, checkerboard, labels, deformed grid,
log-Jacobian, uncertainty, all numbers, what to look at, the methods for a paper and where all of it
came from. Or, with --group, one page on all registrations: a table to sort, outliers and
distributions, with links to the single pages. A page holds its pictures and loads nothing.
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
        summary="show registrations on a page for the browser",
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
        help="the page of a single registration (default: report.html in its folder)",
    )
    parser.add_argument(
        "--group",
        type=Path,
        metavar="FILE",
        help="write this page on all registrations instead; it links to their report.html",
    )
    for name in ("fixed", "moving"):
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"the {name} image of a single registration, if it was moved since",
        )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    _check_usage(args)
    common.start_itk(args)
    for page in _pages(args):
        if not args.quiet:
            print(page)
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    for name in ("output", "fixed", "moving"):
        if getattr(args, name) is not None and (len(args.folders) > 1 or args.group is not None):
            raise InputError(f"--{name} is for the page of a single registration; leave it out")


def _pages(args: argparse.Namespace) -> Iterator[Path]:
    """Write the pages; return each as soon as it is there."""
    from nipype_quicksilver.reports import write_group_report, write_registration_report
    from nipype_quicksilver.reports.folder import read_summary

    if args.group is not None:
        yield write_group_report(args.folders, args.group)
        return
    for folder in args.folders:
        read_summary(folder)  # before the first of many is drawn
    for folder in args.folders:
        yield write_registration_report(folder, args.output, fixed=args.fixed, moving=args.moving)
