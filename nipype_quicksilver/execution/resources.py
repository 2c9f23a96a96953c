"""Resources of nodes: the arguments of Nipype's plugins, and of each node's batch job."""

from __future__ import annotations

import getpass
import math
import multiprocessing
import os
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError

#: Plugins that run on this machine.
LOCAL = ("MultiProc", "Linear")
#: Largest number of jobs that wait or run in a batch system: Nipype polls each of them in turn.
MAX_JOBS = 100

# Names in a file of arguments for every batch system: those of Nipype, and of this package.
_NIPYPE = ("template", "max_jobs", "max_tries", "retry_timeout")
_REQUESTS = ("request", "gpu_request", "cpu_args", "gpu_args")
# Smallest values of arguments that are numbers, and the values of those that are names.
_NUMBERS = {"max_jobs": 1, "max_tries": 1, "retry_timeout": 0, "max_jobname_len": 1}
_NAMES = {
    "scheduler": ("tsort", "mem_thread"),
    "mp_context": tuple(multiprocessing.get_all_start_methods()),
}

# Characters of a format such as "05d": a longer one can ask for gigabytes of zeros.
_LONGEST_FORM = 3


@dataclass(frozen=True)
class BatchSystem:
    """How resources are requested from a batch system.

    Attributes
    ----------
    arguments : str
        Nipype's name for the arguments of a submission.
    request, gpu_request : str
        The request, with ``{n_procs}``, ``{mem_mb}`` (of the whole job) and
        ``{mem_mb_per_proc}``; `gpu_request` is added for nodes that use a GPU.
    more : tuple of str
        Further arguments of Nipype's plugin.
    """

    arguments: str
    request: str
    gpu_request: str
    more: tuple[str, ...] = ()


BATCH_SYSTEMS = {
    "SLURM": BatchSystem(
        "sbatch_args", "--cpus-per-task={n_procs} --mem={mem_mb}M", "--gres=gpu:1", ("jobid_re",)
    ),
    "SGE": BatchSystem("qsub_args", "-pe smp {n_procs} -l h_vmem={mem_mb_per_proc}M", "-l gpu=1"),
    "PBS": BatchSystem(
        "qsub_args", "-l nodes=1:ppn={n_procs} -l mem={mem_mb}mb", "-l gpus=1", ("max_jobname_len",)
    ),
    "LSF": BatchSystem("bsub_args", "-n {n_procs} -R 'span[hosts=1]' -M {mem_mb}", "-gpu num=1"),
}
PLUGINS = (*LOCAL, *BATCH_SYSTEMS)


def check_arguments(arguments: Any, path: Path, plugin: str) -> dict[str, Any]:
    """Return the arguments of a plugin; raise an error for those that it does not take.

    Parameters
    ----------
    arguments : object
        Content of a JSON file. For a batch system: Nipype's own arguments, such as
        ``sbatch_args``, for every job; ``cpu_args`` and ``gpu_args``, in addition for jobs without
        and with a GPU; ``request`` and ``gpu_request`` instead of those of :data:`BATCH_SYSTEMS`.
    path : Path
        The file, for messages.
    plugin : str
        One of :data:`PLUGINS`.

    Returns
    -------
    dict
        The same.

    Raises
    ------
    InputError
        If it is not an object, or has arguments that are unknown to the plugin.
    """
    if not isinstance(arguments, dict):
        raise InputError(f'{path}: is not a JSON object; give {{"name": value}}')
    known = _known_arguments(plugin)
    for name in arguments.keys() - set(known):
        raise InputError(f"{path}: plugin {plugin} has no '{name[:80]}'; give {', '.join(known)}")
    for name, value in arguments.items():
        needed = _needed(name, value)
        if needed:
            raise InputError(f"{path}: {name} is {str(value)[:80]}; give {needed}")
    for name in arguments.keys() & {"request", "gpu_request"}:
        _check_request(path, name, arguments[name])
    return arguments


def _known_arguments(plugin: str) -> tuple[str, ...]:
    if plugin in LOCAL:
        return ("raise_insufficient", "scheduler", "mp_context") if plugin == "MultiProc" else ()
    system = BATCH_SYSTEMS[plugin]
    return (system.arguments, *_REQUESTS, *_NIPYPE, *system.more)


def _needed(name: str, value: Any) -> str:
    """Return what an argument should be instead of its value; empty where the value can be used."""
    if name in _NUMBERS:
        allowed = type(value) is int and value >= _NUMBERS[name]
        return "" if allowed else f"a whole number of at least {_NUMBERS[name]}"
    if name in _NAMES:
        return "" if value in _NAMES[name] else f"one of {', '.join(_NAMES[name])}"
    if name == "raise_insufficient":
        return "" if isinstance(value, bool) else "true or false"
    if not isinstance(value, str):
        return "a text"
    if name == "jobid_re" and not _finds_a_part(value):
        return "a regular expression with the number of the job in parentheses"
    return ""


def _finds_a_part(expression: str) -> bool:
    try:
        return re.compile(expression).groups > 0
    except (re.error, OverflowError, RecursionError):
        return False


def _check_request(path: Path, name: str, request: str) -> None:
    known = _request_values(1, 1.0)
    try:
        for _, field, form, _ in string.Formatter().parse(request):
            if field is not None and field not in known:
                raise InputError(
                    f"{path}: {name} has {{{field}}}; give {', '.join(known)} in braces"
                )
            if form and len(form) > _LONGEST_FORM:
                raise ValueError(f"':{form[:20]}' is longer than {_LONGEST_FORM} characters")
        request.format(**known)
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: {name} is not a valid template ({error}); give {', '.join(known)} in braces"
        ) from error


def _request_values(n_procs: int, mem_gb: float) -> dict[str, int]:
    """Return the values that a request may have in braces, by name."""
    mem_mb = math.ceil(mem_gb * 1024)
    return {
        "n_procs": n_procs,
        "mem_mb": mem_mb,
        "mem_mb_per_proc": math.ceil(mem_mb / n_procs),
    }


def plugin_arguments(
    plugin: str, user_arguments: dict[str, Any], *, n_procs: int, mem_gb: float | None, n_gpus: int
) -> dict[str, Any]:
    """Return the arguments of a plugin of Nipype.

    Parameters
    ----------
    plugin : str
        One of :data:`PLUGINS`.
    user_arguments : dict
        Result of :func:`check_arguments`.
    n_procs, mem_gb, n_gpus
        Limits of all nodes together on this machine; memory in GB, nine tenths of it if None.
    """
    if plugin == "Linear":
        return dict(user_arguments)
    if plugin == "MultiProc":
        limits: dict[str, Any] = {"n_procs": n_procs, "n_gpu_procs": n_gpus}
        if mem_gb is not None:
            limits["memory_gb"] = mem_gb
        return {**limits, **user_arguments}
    os.environ.setdefault("LOGNAME", getpass.getuser())  # Nipype uses it in names of jobs
    native = {name: value for name, value in user_arguments.items() if name not in _REQUESTS}
    return {"max_jobs": MAX_JOBS, **native}


def set_job_arguments(
    nodes: Iterable[Any], plugin: str, user_arguments: dict[str, Any], *, always: str = ""
) -> None:
    """Set the arguments of each node's batch job: threads, memory and GPU as in MultiProc.

    Parameters
    ----------
    nodes : iterable of nipype Node
        Nodes that are submitted.
    plugin : str
        One of :data:`BATCH_SYSTEMS`.
    user_arguments : dict
        Result of :func:`check_arguments`.
    always : str
        Arguments of every job.
    """
    system = BATCH_SYSTEMS[plugin]
    for node in nodes:
        on_gpu = node.is_gpu_node()
        requests = [user_arguments.get("request", system.request)]
        if on_gpu:
            requests.append(user_arguments.get("gpu_request", system.gpu_request))
        numbers = _request_values(node.n_procs, node.mem_gb)
        more = user_arguments.get("gpu_args" if on_gpu else "cpu_args", "")
        parts = [always, *(request.format(**numbers) for request in requests), more]
        node.plugin_args = {system.arguments: " ".join(part for part in parts if part)}


def check_limits(nodes: Iterable[Any], *, n_procs: int, mem_gb: float | None) -> None:
    """Refuse limits under which a node could never run.

    Parameters
    ----------
    nodes : iterable of nipype Node
        All nodes of a workflow.
    n_procs, mem_gb
        Limits of all nodes together; memory in GB, no limit if None.

    Raises
    ------
    InputError
        If a node needs more.
    """
    for node in nodes:
        if node.n_procs > n_procs:
            raise InputError(
                f"--n-procs {n_procs}: {node.name} uses {node.n_procs} threads; give at "
                "least as many, or a smaller --num-threads"
            )
        if mem_gb is not None and node.mem_gb > mem_gb:
            raise InputError(
                f"--mem-gb {mem_gb:g}: {node.name} needs {node.mem_gb:g} GB; give at least as much"
            )


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    from nipype.utils.gpu_count import gpu_count

    return [str(number) for number in range(gpu_count())]
