"""Comparison of methods on many pairs: the other use of `quicksilver evaluate`."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.cli import arguments, common, messages, outputs
from nipype_quicksilver.cli.progress import comparison_progress
from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.evaluation.datasets import DATASETS
from nipype_quicksilver.evaluation.methods import AFFINES, DEFAULT, METHODS, OWN
from nipype_quicksilver.execution.crashes import describe, quiet_nipype
from nipype_quicksilver.execution.processes import descendants_end_first
from nipype_quicksilver.execution.resources import available_cpus
from nipype_quicksilver.options import ROLES
from nipype_quicksilver.tools import PEERS

if TYPE_CHECKING:
    from rich.table import Table

    from nipype_quicksilver.evaluation.pairs import Pair

_logger = logging.getLogger(__name__)
# Tables in the output folder.
_TABLES = tuple(
    f"{name}.tsv"
    for name in ("pairs", "measures", "labels", "jacobians", "errors", "times", "summary")
)


def add_options(parser: argparse.ArgumentParser) -> list[str]:
    """Add the options of a comparison; return the names of those that have no other use."""
    group = parser.add_argument_group("methods compared on many pairs")
    group.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="table (TSV) with the columns fixed, moving, fixed_labels, moving_labels, and "
        "optionally label_set, fixed_mask, moving_mask, affine; paths are relative to its folder",
    )
    group.add_argument(
        "--dataset",
        nargs=2,
        metavar=("NAME", "DIR"),
        help=f"all ordered pairs of a data set ({', '.join(DATASETS)}) that was unpacked in DIR",
    )
    group.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="folder of the tables and figures"
    )
    group.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="METHOD",
        help="; ".join(f"{name}: {own.help}" for name, own in OWN.items())
        + f"; {', '.join(PEERS)}, if they are installed (default: {' '.join(DEFAULT)})",
    )
    group.add_argument(
        "--max-pairs",
        type=common.positive_int,
        metavar="N",
        help="at most N pairs of a data set, drawn at random with --seed",
    )
    group.add_argument(
        "--affine",
        choices=AFFINES,
        help="affine that all methods start from: estimated with SimpleITK, or none if the images "
        "are aligned already; a column affine in the table replaces it (default: simpleitk)",
    )
    arguments.add_options(group, [f"{role}_network" for role in ROLES])
    group.add_argument(
        "--n-procs",
        type=common.positive_int,
        metavar="N",
        help="CPUs in total; registrations run in parallel if --num-threads is smaller (default: "
        "the CPUs this process may use)",
    )
    group.add_argument(
        "--time-prediction",
        action="store_true",
        default=None,
        help="finally, time the prediction of the first pair with 1, 2, 4, ... threads up to "
        "--n-procs, and on a GPU with --device cuda",
    )
    names = [action.dest for action in group._group_actions]
    return [name for name in names if name not in ("pairs", "dataset")]


def writes(args: argparse.Namespace) -> list[Path]:
    """Return the files of the output folder that may be a table of pairs, too."""
    return [] if args.output_dir is None else [args.output_dir / name for name in _TABLES]


def run(args: argparse.Namespace) -> int:
    """Compare methods on the pairs of parsed arguments and return the exit code."""
    from nipype_quicksilver.evaluation.pairs import with_orientations, write_pairs
    from nipype_quicksilver.execution import gpus
    from nipype_quicksilver.execution.locks import locked
    from nipype_quicksilver.execution.private import private_folder
    from nipype_quicksilver.execution.resources import visible_gpus
    from nipype_quicksilver.spatial.folders import check_output_dir, staged_folder

    _check_usage(args)
    check_output_dir(args.output_dir)
    requested = _read_pairs(args)
    # Nipype's files of two comparisons would mix in one work folder.
    with outputs.output_folder(args), common.work_dir(args) as folder, locked(folder):
        private_folder(folder.absolute(), folder.absolute())  # Nipype loads pickles from it
        copies = folder.absolute() / "converted"
        copies.mkdir(exist_ok=True)
        pairs = with_orientations(requested, copies)
        if any(copies.iterdir()):
            _logger.info(
                "images without orientation (Analyze) were copied to NIfTI and centred; which side "
                "is left is unknown"
            )
        devices = visible_gpus() if _uses_gpu(args) else []
        workflow = _workflow(args, pairs, use_gpu=bool(devices))
        workflow.base_dir = str(folder.absolute())
        with gpus.shared(devices) if devices else contextlib.nullcontext():
            _run(args, workflow, pairs, devices)
        tables = Path(workflow.base_dir) / workflow.name / "summarize" / "evaluation"
        with staged_folder(args.output_dir) as stage:
            for file in sorted(tables.iterdir()):
                shutil.copyfile(file, stage / file.name)
            write_pairs(stage / "pairs.tsv", requested)
    if not args.quiet:
        _print_table(args.output_dir)
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    if args.pairs is not None and args.dataset is not None:
        raise InputError("--pairs and --dataset cannot be used together: give one of them")
    if args.output_dir is None:
        raise InputError("--output-dir is missing: give a folder for the tables and figures")
    if args.max_pairs is not None and args.dataset is None:
        raise InputError("--max-pairs needs a data set: leave it out, or give --dataset")
    if args.device.startswith("cuda:"):
        raise InputError(
            f"--device {args.device}: an evaluation may use several GPUs; give --device cuda and "
            "choose them with CUDA_VISIBLE_DEVICES"
        )
    args.n_procs = args.n_procs or max(available_cpus(), args.num_threads)
    if args.num_threads > args.n_procs:
        raise InputError(
            f"--num-threads {args.num_threads}: a registration cannot use more threads than "
            f"--n-procs {args.n_procs}; change one of them"
        )


def _read_pairs(args: argparse.Namespace) -> list[Pair]:
    from nipype_quicksilver.evaluation import datasets, pairs

    if args.pairs is not None:
        return pairs.read_pairs(args.pairs)
    name, folder = args.dataset
    subjects = datasets.find_subjects(name, folder)
    return datasets.ordered_pairs(name, subjects, args.max_pairs, args.seed)


def _workflow(args: argparse.Namespace, pairs: list[Pair], use_gpu: bool) -> Any:
    """Return the workflow; checkpoints that cannot be used are refused before anything runs."""
    from nipype_quicksilver.networks.checkpoint import load_checkpoint
    from nipype_quicksilver.workflows import init_evaluation_wf

    def checked(file: Path | None) -> Path | None:
        if file is not None:
            load_checkpoint(file)
        return None if file is None else file.absolute()

    return init_evaluation_wf(
        pairs=pairs,
        omp_nthreads=args.num_threads,
        methods=args.methods or DEFAULT,
        affine=args.affine or AFFINES[0],
        timed_threads=_powers_of_two(args.n_procs) if args.time_prediction else (),
        prediction_network=checked(args.prediction_network),
        correction_network=checked(args.correction_network),
        use_gpu=use_gpu,
    )


def _uses_gpu(args: argparse.Namespace) -> bool:
    """Return whether the registrations run on GPUs."""
    return args.device != "cpu" and common.start_torch(args).type == "cuda"


def _powers_of_two(largest: int) -> list[int]:
    """Return the powers of two below a number, and the number itself.

    Examples
    --------
    >>> _powers_of_two(6)
    [1, 2, 4, 6]
    """
    numbers = [2**power for power in range(largest.bit_length()) if 2**power < largest]
    return [*numbers, largest]


def _run(args: argparse.Namespace, workflow: Any, pairs: list[Pair], devices: list[str]) -> None:
    """Run the workflow; raise an error that names the first failure if there is one."""
    from nipype_quicksilver.execution.interrupts import interrupts_raised
    from nipype_quicksilver.execution.multiproc import Processes

    crashes = Path(workflow.base_dir) / "crashes"
    shutil.rmtree(crashes, ignore_errors=True)
    workflow.config["execution"] = {
        "crashdump_dir": str(crashes),
        "crashfile_format": "txt",
        "poll_sleep_duration": 0.2,
    }
    failed: list[Any] = []
    total = len(pairs) * len(args.methods or DEFAULT)
    with quiet_nipype(verbose=args.verbose), comparison_progress(args.quiet, total) as advance:

        def on_event(node: Any, event: str) -> None:
            parts = Path(node.output_dir()).parts
            if event == "exception":
                failed.append(node)
            elif event == "end" and parts[-1].startswith(("_register_", "register_")):
                one_of_many = parts[-2] == "mapflow"
                if one_of_many or len(pairs) == 1:
                    advance()

        try:
            limits = {"n_procs": args.n_procs, "n_gpu_procs": len(devices)}
            plugin = Processes(limits)
            # In the plugin's arguments, it would be sent to the workers with every node.
            plugin._status_callback = on_event
            with descendants_end_first(), interrupts_raised():
                workflow.run(plugin)
        except Exception as error:
            if not failed:
                raise
            raise _failure(args, failed, pairs, crashes) from error


def _failure(
    args: argparse.Namespace, failed: list[Any], pairs: list[Pair], crashes: Path
) -> QuicksilverError:
    """Return the error for nodes that failed; it describes the first of them."""
    folder = Path(failed[0].output_dir())
    step = folder.parts[-3] if folder.parts[-2] == "mapflow" else folder.name
    number = folder.name.removeprefix(f"_{step}")
    where = f"step {step}"
    if number.isdigit() and step != "brains":
        where += f" of {pairs[int(number)].name}"
    files = sorted(crashes.glob(f"crash-*-{failed[0].name}-*"), key=lambda f: f.stat().st_mtime)
    reason = "there is no crash file"
    if files:
        reason = describe(files[0].read_text(encoding="utf-8", errors="replace"))
    resume = "with the same --work-dir" if args.work_dir else "with --work-dir, to keep the rest"
    return QuicksilverError(
        f"{len(failed)} step{'' if len(failed) == 1 else 's'} failed; the first: {where}: "
        f"{reason}; correct it and run again {resume}"
    )


def _print_table(folder: Path) -> None:
    from rich.console import Console

    console = Console()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for label_set in dict.fromkeys(row["label_set"] for row in summary["methods"]):
        rows = [row for row in summary["methods"] if row["label_set"] == label_set]
        console.print(_table(label_set, rows, summary["reference"]))
    messages.print_path("Files", folder)


def _table(label_set: str, rows: list[dict[str, Any]], reference: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    columns = {
        "method": (None, ""),
        "target overlap": ("target_overlap_mean", ".4f"),
        "median": ("target_overlap_median", ".4f"),
        "folds, %": ("folded_percent_mean", ".4f"),
        f"from {reference}, mm": ("error_mm_p50", ".2f"),
        "95%": ("error_mm_p95", ".2f"),
        "seconds": ("seconds_median", ".1f"),
        "CPU s": ("cpu_seconds_median", ".1f"),
    }
    pairs = rows[0]["pairs"]
    title = f"{escape(label_set)}: {pairs} pair{'' if pairs == 1 else 's'}"
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        cells = [
            "-" if row[key] is None else f"{row[key]:{form}}"
            for key, form in columns.values()
            if key is not None
        ]
        table.add_row(row["method"], *cells)
    return table
