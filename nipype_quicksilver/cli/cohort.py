"""`quicksilver cohort`: register all images of a BIDS data set."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli import common, options
from nipype_quicksilver.cli.progress import print_table, shown
from nipype_quicksilver.cli.register import BRAIN_EXTRACTIONS
from nipype_quicksilver.cohort.images import SUFFIXES, CohortImage, find_images
from nipype_quicksilver.cohort.jobs import PAIRWISE, Job, Settings, plan
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution.resources import LOCAL, PLUGINS
from nipype_quicksilver.options import DEFAULT_METHOD, METHODS, check_method
from nipype_quicksilver.workflows import external

if TYPE_CHECKING:
    from nipype_quicksilver.cohort.derivatives import Place
    from nipype_quicksilver.cohort.failures import Failure
    from nipype_quicksilver.cohort.running import Engine

LEVELS = ("participant", "group")
WORKFLOW = "cohort_wf"

_DESCRIPTION = """\
Register all T1-weighted (or T2-weighted) images of a BIDS data set to a template, to an image, or
to each other, and write BIDS derivatives. An image that fails does not keep the others from being
done; the same command, started again, does what is missing. 'group' gathers the figures of all.
"""
_EPILOG = """\
Example:
  quicksilver cohort bids derivatives/quicksilver participant --n-procs 8 --mem-gb 32
  quicksilver cohort bids derivatives/quicksilver participant --plugin SLURM --plugin-args lab.json
  quicksilver cohort images.tsv out participant --fixed template.nii.gz --participant-label 01 02
  quicksilver cohort bids derivatives/quicksilver group

Instead of a BIDS data set, a table (.tsv) may list the images: its columns are participant_id and
image, and where wanted session_id, mask and labels.
"""

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
        "output_dir", type=Path, metavar="OUT", help="folder of the derivatives; made if needed"
    )
    parser.add_argument(
        "level",
        choices=LEVELS,
        help="participant: register the images; group: gather the figures of all of them",
    )
    _add_images(parser)
    _add_registration(parser)
    _add_engine(parser)
    # Else every image would take the whole machine, and results would depend on its size.
    parser.set_defaults(run=run, num_threads=1)
    for action in parser._actions:
        if action.dest == "num_threads":
            action.help = "threads of each node (default: 1, and as many images at once)"
        elif action.dest == "work_dir":
            action.help = (
                "folder of intermediate files; a run that is started again needs it "
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
        help="BIDS folder with a label map (*_dseg.nii.gz) of each image, to be warped",
    )
    group.add_argument(
        "--fixed",
        default="MNI152",
        metavar="MNI152|FILE|pairwise",
        help="what images are registered to: the template that comes with this package, an image, "
        "a name of TemplateFlow's, or, pairwise, each other (default: MNI152)",
    )
    group.add_argument(
        "--fixed-labels",
        type=Path,
        metavar="FILE",
        help="label map of the fixed image, with which warped labels are compared",
    )


def _add_registration(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("registration, as 'quicksilver register' has it")
    group.add_argument(
        "--method",
        choices=METHODS,
        default=DEFAULT_METHOD,
        help=f"where the momentum comes from (default: {DEFAULT_METHOD})",
    )
    group.add_argument(
        "--corrections", type=common.positive_int, metavar="N", help="of a prediction (default: 1)"
    )
    options.add_networks(group)
    options.add_settings(group)
    group.add_argument(
        "--brain-extraction",
        choices=BRAIN_EXTRACTIONS + external.BRAIN_EXTRACTIONS,
        default="deepbet",
        help="how brains without mask are found (default: deepbet)",
    )
    group.add_argument(
        "--affine",
        choices=("simpleitk", *external.AFFINES, "none"),
        default="simpleitk",
        help="how images are aligned first (default: simpleitk)",
    )


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is run")
    group.add_argument(
        "--plugin",
        choices=PLUGINS,
        default="MultiProc",
        help="several nodes at once on this machine, one after the other (Linear), or by a batch "
        "system (default: MultiProc)",
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
        type=_positive,
        metavar="G",
        help="memory of all nodes together (default: nine tenths of this machine's)",
    )
    group.add_argument(
        "--n-gpus",
        type=common.whole_number,
        metavar="N",
        help="GPUs of all nodes together; in a batch system, any number gives each registration "
        "one (default: all of this machine that torch can use, none in a batch system)",
    )


def _positive(text: str) -> float:
    """Return the number above 0 that `text` holds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the sub-command on parsed arguments and return its exit code."""
    if args.level == "group":
        return _group(args)
    from nipype_quicksilver.cohort import running
    from nipype_quicksilver.cohort.derivatives import is_whole, prepare

    os.environ.setdefault("NO_ET", "1")  # Nipype asks a server for its newest version otherwise
    settings, place, engine = _settings(args), _place(args), _engine(args)
    images = _images(args, settings)
    _check(args, settings, images)
    jobs, build = plan(images, settings), _builder(args, settings, place, engine)
    running.check(build(jobs[:1]), engine)
    with running.alone(engine.work_dir):
        if engine.plugin == "SLURM":
            running.cancel_leftovers(engine.work_dir)
        prepare(place, jobs)
        left = [job for job in jobs if not is_whole(job, settings, place.output_dir)]
        _logger.info("%d to register, %d done already", len(left), len(jobs) - len(left))
        failures = _register(args, left, len(jobs) - len(left), settings, build, engine)
    _validate(place.output_dir)
    return _report(args, jobs, failures)


def _settings(args: argparse.Namespace) -> Settings:
    def path(file: Path | None) -> str | None:
        return None if file is None else str(file.absolute())

    fixed = str(args.fixed)
    file = Settings(fixed).fixed_file
    similarity = args.similarity
    if args.suffix == "T2w" and fixed == "MNI152" and args.method in ("refine", "optimize"):
        similarity = similarity or "mind"  # the template is T1-weighted
    return Settings(
        path(file) or fixed,
        method=args.method,
        similarity=similarity,
        iterations=args.iterations,
        prediction_network=path(args.prediction_network),
        correction_network=path(args.correction_network),
        samples=args.samples,
        corrections=args.corrections,
        brain_extraction=args.brain_extraction,
        affine=args.affine,
        fixed_labels=path(args.fixed_labels),
        seed=args.seed,
    )


def _place(args: argparse.Namespace) -> Place:
    from nipype_quicksilver.cohort.derivatives import Place
    from nipype_quicksilver.spatial.folders import check_output_dir

    source = args.bids_dir.absolute() if args.bids_dir.is_dir() else None
    output = args.output_dir.absolute()
    if source == output:
        raise InputError(f"{args.output_dir}: is the data set itself; choose another OUT")
    check_output_dir(output)
    return Place(output, source)


def _engine(args: argparse.Namespace) -> Engine:
    from nipype_quicksilver.cohort.derivatives import LOGS, WORK
    from nipype_quicksilver.cohort.running import Engine
    from nipype_quicksilver.execution import resources

    output = args.output_dir.absolute()
    return Engine(
        args.plugin,
        work_dir=output / WORK if args.work_dir is None else args.work_dir.absolute(),
        crash_dir=output / LOGS,
        given=resources.read_arguments(args.plugin_args, args.plugin),
        n_procs=args.n_procs or common.available_cpus(),
        mem_gb=args.mem_gb,
        n_gpus=_gpus(args),
        verbose=args.verbose,
    )


def _gpus(args: argparse.Namespace) -> int:
    """Return how many GPUs are used at once."""
    from nipype_quicksilver.execution.resources import visible_gpus

    if args.device.startswith("cuda:"):
        raise InputError(
            f"--device {args.device}: a cohort shares GPUs out; name them in CUDA_VISIBLE_DEVICES"
        )
    if args.device == "cpu":
        if args.n_gpus:
            raise InputError("--device cpu: leave --n-gpus out, or take --device cuda")
        return 0
    if args.plugin not in LOCAL:
        return int(args.device == "cuda") if args.n_gpus is None else args.n_gpus
    seen = len(visible_gpus())
    if args.n_gpus is not None and args.n_gpus > seen:
        raise InputError(f"--n-gpus {args.n_gpus}: {seen} GPUs are seen here; give {seen} at most")
    if args.n_gpus is not None:
        return args.n_gpus
    return seen if args.device == "cuda" or (seen and _torch_uses_gpus()) else 0


def _torch_uses_gpus() -> bool:
    import torch

    return torch.cuda.is_available()


def _images(args: argparse.Namespace, settings: Settings) -> list[CohortImage]:
    images = find_images(
        args.bids_dir.absolute(),
        suffix=args.suffix,
        participants=args.participant_label,
        labels_dir=args.labels,
    )
    if settings.fixed == PAIRWISE and len(images) < 2:
        raise InputError(f"{args.bids_dir}: has one image; pairwise needs two")
    unmasked = [image for image in images if image.mask is None and image.suffix != "T1w"]
    if unmasked and settings.brain_extraction == "deepbet":
        raise InputError(
            f"{unmasked[0].path}: deepbet finds brains in T1w images only; give masks in a table, "
            "another --brain-extraction, or none for images without skull"
        )
    return images


def _check(args: argparse.Namespace, settings: Settings, images: Sequence[CohortImage]) -> None:
    """Refuse what no image could be registered with, before anything is written."""
    from nipype_quicksilver.preprocessing.templates import is_template
    from nipype_quicksilver.spatial.files import check_readable

    check_method(
        settings.method,
        similarity=settings.similarity,
        iterations=settings.iterations,
        samples=settings.samples,
        corrections=settings.corrections,
        prediction_network=settings.prediction_network,
        correction_network=settings.correction_network,
    )
    if args.iterations is not None:
        options.chosen_settings(args, "refine" if args.method == "refine" else "full")
    if settings.fixed_labels is not None and settings.fixed == PAIRWISE:
        raise InputError("--fixed-labels: pairwise, images bring their own; leave it out")
    if settings.fixed_labels is not None:
        check_readable(settings.fixed_labels, "fixed labels")
        if not any(image.labels for image in images):
            raise InputError(
                "--fixed-labels: no image has labels to compare with; give --labels, or a table "
                "that has a column labels"
            )
    if settings.fixed_file is not None:
        check_readable(settings.fixed_file, "fixed image")
    elif settings.fixed != PAIRWISE and not is_template(settings.fixed):
        _find_template(settings.fixed)
    for name in ("prediction_network", "correction_network"):
        file = getattr(settings, name)
        if file is not None:
            check_readable(file, name.replace("_", " "))


def _find_template(name: str) -> None:
    """Let TemplateFlow fetch a template once, and refuse a name that it does not know."""
    import tempfile

    from nipype_quicksilver.preprocessing.templates import find_template

    with tempfile.TemporaryDirectory() as folder:
        find_template(name, folder)


def _builder(
    args: argparse.Namespace, settings: Settings, place: Place, engine: Engine
) -> Callable[[Sequence[Job]], Any]:
    """Return what builds the workflow of jobs."""
    from nipype_quicksilver.workflows import init_cohort_wf

    return lambda jobs: init_cohort_wf(
        jobs=jobs,
        settings=settings,
        place=place,
        omp_nthreads=args.num_threads,
        use_gpu=engine.n_gpus > 0,
        name=WORKFLOW,
    )


def _register(
    args: argparse.Namespace,
    jobs: Sequence[Job],
    done: int,
    settings: Settings,
    build: Callable[[Sequence[Job]], Any],
    engine: Engine,
) -> dict[str, Failure]:
    """Run the workflow of the jobs; return what failed."""
    if not jobs:
        return {}
    from nipype_quicksilver.cohort import running
    from nipype_quicksilver.cohort.progress import Progress
    from nipype_quicksilver.execution import gpus
    from nipype_quicksilver.execution.resources import visible_gpus

    local = engine.n_gpus and engine.plugin in LOCAL
    devices = gpus.shared(visible_gpus()[: engine.n_gpus]) if local else nullcontext()
    with devices, shown(args.quiet) as show:
        progress = Progress(
            jobs,
            done=done,
            show=show,
            unneeded=lambda part: running.clean(engine.work_dir, WORKFLOW, part),
        )
        output_dir = args.output_dir.absolute()
        return running.run(jobs, settings, output_dir, build, engine, progress)


def _validate(output_dir: Path) -> None:
    """Say what the BIDS validator has against the derivatives."""
    from nipype_quicksilver.cohort.validation import validate

    errors = validate(output_dir)
    if errors is None:
        _logger.info("derivatives not validated: pip install 'nipype-quicksilver[bids]' does it")
    elif errors:
        _logger.warning("BIDS validator: %d errors, first %s", len(errors), errors[0])
    else:
        _logger.info("BIDS validator: no errors")


def _report(args: argparse.Namespace, jobs: Sequence[Job], failures: dict[str, Failure]) -> int:
    """List the failures; return the exit code."""
    _logger.info("%d of %d done: %s", len(jobs) - len(failures), len(jobs), args.output_dir)
    for name, failure in failures.items():
        print(f"failed: {name}: {failure.reason} ({failure.crash_file})", file=sys.stderr)
    if failures:
        common.print_error(
            f"{len(failures)} of {len(jobs)} registrations failed; the same command, started "
            "again, does what is missing"
        )
    return 1 if failures else 0


def _group(args: argparse.Namespace) -> int:
    """Gather the figures of all registrations."""
    from nipype_quicksilver.cohort.group import TABLE, gather, show

    rows = gather(args.output_dir)
    page = show(args.output_dir)
    _validate(args.output_dir)
    if not args.quiet:
        print_table(rows)
    _logger.info("%d registrations: %s, %s", len(rows), args.output_dir / TABLE, page)
    return 0
