"""`quicksilver doctor`: what is installed, whether it works, and what to send with a bug report."""

from __future__ import annotations

import argparse
import contextlib
from itertools import groupby
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common

if TYPE_CHECKING:
    from nipype_quicksilver.doctor import Finding

_DESCRIPTION = """\
Look at what is installed: versions, GPU, threads, memory and disk, programs of other packages that
can be used, and the networks of this package, whose files are checked. Then shoot a small geodesic
and register a small image, whose results are known. Takes a few seconds; needs no data, no network.
"""
_EPILOG = """\
Example:
  quicksilver doctor
The same by 'python -m nipype_quicksilver doctor', where the command is not found.
Exit code 0 when all is well, 1 when something that is needed is broken.
"""
_MARKS = {"good": "ok", "note": "-", "bad": "BAD"}
_ADVICE = """\
With a bug report, send all of the above, the command that failed, and what it printed with
--verbose. It names no files of yours; look through what you add."""


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "doctor",
        summary="tell what is installed and whether it works",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.doctor import BAD, examine

    with contextlib.suppress(ImportError, OSError):  # which is then found
        common.start_torch(args)
    findings = examine(args.work_dir, args.device)
    broken = [finding for finding in findings if finding.state == BAD]
    for part, group in groupby(broken if args.quiet else findings, key=lambda f: f.part):
        _print_part(part, list(group))
    if broken:
        print(f"\nBroken: {', '.join(finding.name for finding in broken)}.")
    elif not args.quiet:
        print("\nAll is well.")
    if not args.quiet:
        print(_ADVICE)
    return 1 if broken else 0


def _print_part(part: str, findings: list[Finding]) -> None:
    """Print what was found under a heading, in columns, as plain text to be copied."""
    print(f"{part}:")
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"  {_MARKS[finding.state]:4}{finding.name:{width}}  {finding.text}")
