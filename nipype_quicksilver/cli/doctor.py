"""`quicksilver doctor`: check the installation, and describe it for a bug report."""

from __future__ import annotations

import argparse
import contextlib
from itertools import groupby
from typing import TYPE_CHECKING

from nipype_quicksilver.cli import common

if TYPE_CHECKING:
    from nipype_quicksilver.doctor import Finding

_DESCRIPTION = """\
Check the installation: versions, GPU, threads, memory, disk, external tools, and the networks of
this package. Then test shooting and registration on small images whose results are known. It takes
a few seconds, and needs neither data nor the internet.
"""
_EPILOG = """\
Example:
  quicksilver doctor
If the command is not found, run 'python -m nipype_quicksilver doctor'.
The exit code is 0 if all checks passed, and 1 if a required part is broken.
"""
_MARKS = {"good": "ok", "note": "-", "bad": "BAD"}
_ADVICE = """\
In a bug report, include all of the above, the command that failed, and its output with --verbose.
The above contains no names of your files; check what you add to it."""


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "doctor",
        summary="check the installation",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    from nipype_quicksilver.doctor import BAD, examine

    with contextlib.suppress(ImportError, OSError):  # which `examine` reports
        common.start_torch(args)
    findings = examine(args.work_dir, args.device)
    broken = [finding for finding in findings if finding.state == BAD]
    for part, group in groupby(broken if args.quiet else findings, key=lambda f: f.part):
        _print_part(part, list(group))
    if broken:
        print(f"\nBroken: {', '.join(finding.name for finding in broken)}.")
    elif not args.quiet:
        print("\nAll checks passed.")
    if not args.quiet:
        print(_ADVICE)
    return 1 if broken else 0


def _print_part(part: str, findings: list[Finding]) -> None:
    """Print findings under a heading, in columns, as plain text that can be copied."""
    print(f"{part}:")
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"  {_MARKS[finding.state]:4}{finding.name:{width}}  {finding.text}")
