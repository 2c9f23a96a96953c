"""`quicksilver cohort`: register all images of a BIDS data set."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli import arguments, common
from nipype_quicksilver.cli.progress import cohort_progress
from nipype_quicksilver.cohort.images import SUFFIXES
from nipype_quicksilver.cohort.jobs import PAIRWISE, CohortOptions, Job, plan
from nipype_quicksilver.cohort.validation import log_errors
from nipype_quicksilver.execution.resources import PLUGINS, available_cpus
from nipype_quicksilver.options import COHORT_OPTIONS, MNI152

if TYPE_CHECKING:
    from nipype_quicksilver.cohort.failures import Failure
    from nipype_quicksilver.cohort.running import RunOptions

LEVELS = ("participant", "group")

_DESCRIPTION = """\
Register all T1-weighted (or T2-weighted) images of a BIDS data set to a template, to an image, or
to each other, and write BIDS derivatives. An image that fails does not stop the others; run the
same command again to do what is missing. 'group' writes a table and a page on all registrations.
"""
_EPILOG = """\
Examples:
  quicksilver cohort bids derivatives/quicksilver participant --n-procs 8 --mem-gb 32
  quicksilver cohort bids derivatives/quicksilver participant --plugin SLURM --plugin-args lab.json
  quicksilver cohort images.tsv out participant --fixed template.nii.gz --participant-label 01 02
  quicksilver cohort bids derivatives/quicksilver group

Instead of a BIDS data set, a table (.tsv) may list the images: its columns are participant_id and
image, and optionally session_id, mask, labels and lesion_mask.
"""

_POSITIVE = partial(
    common.number, allowed=lambda value: 0 < value < math.inf, what="a number above 0"
)

_logger = logging.getLogger(__name__)


def add_parser(subparsers: common.Subparsers) -> None:
    """Add the sub-command."""
    parser = common.add_command(
        subparsers,
        "cohort",
        summary="register all images of a BIDS data set",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "bids_dir", type=Path, metavar="BIDS_DIR", help="BIDS data set, or a table of images (.tsv)"
    )
    parser.add_argument(
        "output_dir", type=Path, metavar="OUT", help="folder of the derivatives; created if needed"
    )
    parser.add_argument(
        "level",
        choices=LEVELS,
        help="participant: register the images; group: summarise the registrations",
    )
    _add_images(parser)
    _add_registration(parser)
    _add_run_options(parser)
    # Otherwise every image would use the whole machine, and results would depend on its size.
    parser.set_defaults(run=run, num_threads=1)
    for action in parser._actions:
        if action.dest == "num_threads":
            action.help = "threads of each node (default: 1; several images run at the same time)"
        elif action.dest == "work_dir":
            action.help = (
                "folder of intermediate files, from which an interrupted run is resumed "
                "(default: OUT/work)"
            )


def _add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images")
    group.add_argument(
        "--participant-label",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="only these participants, with or without 'sub-'",
    )
    group.add_argument(
        "--suffix", choices=SUFFIXES, default="T1w", help="which images (default: T1w)"
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="DIR",
        help="BIDS folder with a label map (*_dseg.nii.gz) of each image; they are warped",
    )
    group.add_argument(
        "--fixed",
        default=MNI152,
        metavar=f"{MNI152}|FILE|{PAIRWISE}",
        help="what images are registered to: the template of this package, an image file, a "
        f"template of TemplateFlow, or, with {PAIRWISE}, each other (default: {MNI152})",
    )
    group.add_argument(
        "--fixed-labels",
        type=Path,
        metavar="FILE",
        help="label map of the fixed image, to compare with the warped labels",
    )


def _add_registration(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("registration, as in 'quicksilver register'")
    arguments.add_options(group, options=COHORT_OPTIONS)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("execution")
    group.add_argument(
        "--plugin",
        choices=PLUGINS,
        default="MultiProc",
        help="Nipype plugin: several nodes in parallel on this machine (MultiProc), one after the "
        "other (Linear), or in a batch system (default: MultiProc)",
    )
    group.add_argument(
        "--plugin-args",
        type=Path,
        metavar="FILE",
        help="arguments of the plugin (.json), such as partitions and accounts of a cluster",
    )
    group.add_argument(
        "--n-procs",
        type=common.positive_int,
        metavar="N",
        help="processors of all nodes together (default: all of this machine)",
    )
    group.add_argument(
        "--mem-gb",
        type=_POSITIVE,
        metavar="G",
        help="memory of all nodes together, GB (default: nine tenths of this machine's)",
    )
    group.add_argument(
        "--n-gpus",
        type=common.whole_number,
        metavar="N",
        help="GPUs of all nodes together; in a batch system, a number above 0 requests one for "
        "each registration (default: all of this machine that torch can use; 0 in a batch system)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    if args.level == "group":
        return _group(args)
    os.environ.setdefault("NO_ET", "1")  # otherwise Nipype asks a server for its newest version
    from nipype_quicksilver.cohort import request, running
    from nipype_quicksilver.cohort.ownership import check_outputs
    from nipype_quicksilver.workflows import init_cohort_wf

    chosen = _chosen(args)
    place = request.choose_place(args.bids_dir, args.output_dir)
    run_options = _run_options(args)
    images = request.choose_images(
        args.bids_dir,
        chosen,
        suffix=args.suffix,
        participants=args.participant_label,
        labels_dir=args.labels,
    )
    request.check_options(chosen, images)
    jobs = plan(images, chosen)
    read = [file for file in (args.bids_dir, args.plugin_args) if file is not None]
    check_outputs(jobs, chosen, place.output_dir, read)
    build = partial(
        init_cohort_wf,
        options=chosen,
        place=place,
        omp_nthreads=args.num_threads,
        use_gpu=run_options.n_gpus > 0,
        name=running.WORKFLOW,
    )
    running.check(build, jobs, chosen, run_options)
    display = cohort_progress(args.quiet)
    failures = running.run_missing(jobs, chosen, place, build, run_options, display)
    log_errors(place.output_dir)
    return _report(args, jobs, failures)


def _chosen(args: argparse.Namespace) -> CohortOptions:
    """Return the options, with absolute paths: jobs run in other folders."""
    from nipype_quicksilver.cohort.request import default_similarity

    options = arguments.chosen_options(args, COHORT_OPTIONS)
    fixed = str(args.fixed)
    if options["similarity"] is None:
        options["similarity"] = default_similarity(options["method"], fixed, args.suffix)
    for name, option in COHORT_OPTIONS.items():
        if option.is_file(options[name]):  # type: ignore[literal-required]
            options[name] = _absolute(options[name])  # type: ignore[literal-required]
    chosen = CohortOptions.of(fixed, **options)
    if chosen.fixed_file is not None:
        fixed = str(chosen.fixed_file.absolute())
    labels = None if args.fixed_labels is None else str(args.fixed_labels.absolute())
    return replace(chosen, fixed=fixed, fixed_labels=labels)


def _absolute(file: str | Path) -> str:
    return str(Path(file).absolute())


def _run_options(args: argparse.Namespace) -> RunOptions:
    from nipype_quicksilver.cohort.derivatives import LOGS, WORK
    from nipype_quicksilver.cohort.plugins import read_arguments
    from nipype_quicksilver.cohort.request import choose_gpus
    from nipype_quicksilver.cohort.running import RunOptions

    output = args.output_dir.absolute()
    return RunOptions(
        args.plugin,
        work_dir=output / WORK if args.work_dir is None else args.work_dir.absolute(),
        crash_dir=output / LOGS,
        plugin_args=read_arguments(args.plugin_args, args.plugin),
        n_procs=args.n_procs or available_cpus(),
        mem_gb=args.mem_gb,
        n_gpus=choose_gpus(args.device, args.plugin, args.n_gpus),
        verbose=args.verbose,
    )


def _report(args: argparse.Namespace, jobs: Sequence[Job], failures: dict[str, Failure]) -> int:
    """List the failures; return the exit code."""
    _logger.info("%d of %d done: %s", len(jobs) - len(failures), len(jobs), args.output_dir)
    for name, failure in failures.items():
        file = "" if failure.crash_file is None else f" ({failure.crash_file})"
        print(f"failed: {name}: {failure.reason}{file}", file=sys.stderr)
    if failures:
        common.print_error(
            f"{len(failures)} of {len(jobs)} registrations failed; run the same command again to "
            "do what is missing"
        )
    return 1 if failures else 0


def _group(args: argparse.Namespace) -> int:
    """Write the table and the page on all registrations."""
    from nipype_quicksilver.cohort.group import TABLE, read_records, write_page, write_table

    records = read_records(args.output_dir)
    rows = write_table(records, args.output_dir)
    page = write_page(records, args.output_dir)
    log_errors(args.output_dir)
    if not args.quiet:
        _print_table(rows)
    _logger.info("%d registrations: %s, %s", len(rows), args.output_dir / TABLE, page)
    return 0


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Print the median and the range of the measures of all registrations."""
    from statistics import median

    from rich.console import Console
    from rich.table import Table

    table = Table("", "median", "minimum", "maximum", title=f"{len(rows)} registrations")
    names = {
        "similarity_before": "local correlation before",
        "similarity_after": "local correlation after",
        "dice_before": "Dice before",
        "dice_after": "Dice after",
        "folded_voxels": "folded voxels",
        "inverse_consistency": "inverse consistency, mm",
        "seconds": "seconds",
    }
    for name, text in names.items():
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            numbers = (median(values), min(values), max(values))
            table.add_row(text, *(f"{number:.4g}" for number in numbers))
    Console().print(table)
