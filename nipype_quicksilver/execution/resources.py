"""What nodes are charged: the arguments of Nipype's plugins, and of each node's batch job."""

from __future__ import annotations

import getpass
import json
import math
import os
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype_quicksilver.errors import InputError

#: Plugins that run on this machine.
LOCAL = ("MultiProc", "Linear")
#: Jobs that wait or run in a batch system at once: Nipype asks it for each of them in turn.
MAX_JOBS = 100

# What a file of arguments may hold for every batch system: Nipype's own, and ours.
_NIPYPE = ("template", "max_jobs", "max_tries", "retry_timeout")
_REQUESTS = ("request", "gpu_request", "cpu_args", "gpu_args")


@dataclass(frozen=True)
class BatchSystem:
    """How a batch system is asked for resources.

    Attributes
    ----------
    arguments : str
        Nipype's name for the arguments of a submission.
    request, gpu_request : str
        What is asked for, with ``{n_procs}``, ``{mem_mb}`` (of the whole job) and
        ``{mem_mb_per_proc}``; `gpu_request` is added to it where a node has a GPU.
    more : tuple of str
        Further arguments that its plugin of Nipype knows.
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


def read_arguments(path: Path | None, plugin: str) -> dict[str, Any]:
    """Read a file of arguments of a plugin.

    Parameters
    ----------
    path : Path or None
        JSON. For a batch system: Nipype's own arguments, such as ``sbatch_args``, which every job
        gets; ``cpu_args`` and ``gpu_args``, which jobs without and with a GPU get besides;
        ``request`` and ``gpu_request`` instead of those of :data:`BATCH_SYSTEMS`.
    plugin : str
        One of :data:`PLUGINS`.

    Returns
    -------
    dict
        What the file holds; nothing without a file.

    Raises
    ------
    InputError
        If the file cannot be read, or holds something that the plugin does not know.
    """
    if path is None:
        return {}
    try:
        arguments = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); correct the file") from error
    if not isinstance(arguments, dict):
        raise InputError(f'{path}: is no JSON object; give {{"name": value}}')
    known = _known(plugin)
    for name in arguments.keys() - set(known):
        raise InputError(f"{path}: plugin {plugin} has no '{name}'; give {', '.join(known)}")
    most = arguments.get("max_jobs", MAX_JOBS)
    if not isinstance(most, int) or most < 1:
        raise InputError(f"{path}: max_jobs is {most}; give a whole number of at least 1")
    for name in arguments.keys() & {"request", "gpu_request"}:
        _check_request(path, name, arguments[name])
    return arguments


def _known(plugin: str) -> tuple[str, ...]:
    if plugin in LOCAL:
        return ("raise_insufficient", "scheduler", "mp_context") if plugin == "MultiProc" else ()
    system = BATCH_SYSTEMS[plugin]
    return (system.arguments, *_REQUESTS, *_NIPYPE, *system.more)


def _check_request(path: Path, name: str, request: str) -> None:
    known = _numbers(1, 1.0)
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(request) if field}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {name} is no text to fill in ({error})") from error
    for field in fields - known.keys():
        raise InputError(f"{path}: {name} has {{{field}}}; give {', '.join(known)} in braces")


def _numbers(n_procs: int, mem_gb: float) -> dict[str, int]:
    """Return what may stand in braces in a request."""
    mem_mb = math.ceil(mem_gb * 1024)
    return {
        "n_procs": n_procs,
        "mem_mb": mem_mb,
        "mem_mb_per_proc": math.ceil(mem_mb / n_procs),
    }


def plugin_arguments(
    plugin: str, given: dict[str, Any], *, n_procs: int, mem_gb: float | None, n_gpus: int
) -> dict[str, Any]:
    """Return the arguments of a plugin of Nipype's.

    Parameters
    ----------
    plugin : str
        One of :data:`PLUGINS`.
    given : dict
        What :func:`read_arguments` read.
    n_procs, mem_gb, n_gpus
        What all nodes together may use on this machine; memory in GB, nine tenths of it if None.
    """
    if plugin == "Linear":
        return dict(given)
    if plugin == "MultiProc":
        limits: dict[str, Any] = {"n_procs": n_procs, "n_gpu_procs": n_gpus}
        if mem_gb is not None:
            limits["memory_gb"] = mem_gb
        return {**limits, **given}
    os.environ.setdefault("LOGNAME", getpass.getuser())  # Nipype names jobs by it
    ours = {name: value for name, value in given.items() if name not in _REQUESTS}
    return {"max_jobs": MAX_JOBS, **ours}


def charge(nodes: Iterable[Any], plugin: str, given: dict[str, Any], *, always: str = "") -> None:
    """Give each node the arguments of its batch job: threads, memory and GPU as MultiProc has them.

    Parameters
    ----------
    nodes : iterable of nipype Node
        Those that are submitted.
    plugin : str
        One of :data:`BATCH_SYSTEMS`.
    given : dict
        What :func:`read_arguments` read.
    always : str
        Arguments of every job.
    """
    system = BATCH_SYSTEMS[plugin]
    for node in nodes:
        on_gpu = node.is_gpu_node()
        parts = [always, given.get("request", system.request)]
        if on_gpu:
            parts.append(given.get("gpu_request", system.gpu_request))
        parts.append(given.get("gpu_args" if on_gpu else "cpu_args", ""))
        numbers = _numbers(node.n_procs, node.mem_gb)
        text = " ".join(part for part in parts if part).format(**numbers)
        node.plugin_args = {system.arguments: text}


def check_limits(nodes: Iterable[Any], *, n_procs: int, mem_gb: float | None) -> None:
    """Refuse limits under which a node could never run.

    Parameters
    ----------
    nodes : iterable of nipype Node
        All of a workflow.
    n_procs, mem_gb
        What all nodes together may use; memory in GB, no limit if None.

    Raises
    ------
    InputError
        If a node needs more.
    """
    for node in nodes:
        if node.n_procs > n_procs:
            raise InputError(
                f"--n-procs {n_procs}: {node.name} uses {node.n_procs} threads; give as many, or "
                "a smaller --num-threads"
            )
        if mem_gb is not None and node.mem_gb > mem_gb:
            raise InputError(
                f"--mem-gb {mem_gb:g}: {node.name} needs {node.mem_gb:g} GB; give as much"
            )


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    from nipype.utils.gpu_count import gpu_count

    return [str(number) for number in range(gpu_count())]
