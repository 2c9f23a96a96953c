"""Nipype's plugins, changed: one image after the other, and faults with lost jobs fixed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from nipype.pipeline import plugins
from nipype.pipeline.engine.utils import topological_sort
from nipype.pipeline.plugins.tools import report_crash

from nipype_quicksilver.cohort.progress import part_of
from nipype_quicksilver.cohort.slurm import end_of
from nipype_quicksilver.execution.crashes import STATE, is_lost
from nipype_quicksilver.execution.interrupts import interrupts_raised
from nipype_quicksilver.execution.multiproc import Processes
from nipype_quicksilver.execution.resources import BATCH_SYSTEMS, check_arguments
from nipype_quicksilver.spatial.records import read_json


class _Linear(plugins.LinearPlugin):
    """Runs one node after the other; an interrupt ends the run at once.

    Nipype takes an interrupt within a node for its failure: it writes a crash file, and goes on.
    """

    def run(self, graph: Any, config: dict[str, Any], updatehash: bool = False) -> None:
        """Run all nodes but those after a failure, the first of which is raised in the end."""
        tell = self._status_callback or (lambda node, event: None)
        errors: list[Exception] = []
        without_result: set[Any] = set()
        for node in topological_sort(graph)[0]:
            if not without_result.isdisjoint(graph.predecessors(node)):
                without_result.add(node)
                continue
            tell(node, "start")
            try:
                with contextlib.chdir("."), interrupts_raised():
                    node.run(updatehash=updatehash)
            except Exception as error:
                report_crash(node)
                errors.append(error)
                without_result.add(node)
                tell(node, "exception")
            else:
                tell(node, "end")
        if errors:
            raise errors[0]


class _ImageByImage:
    """Base class, before a plugin that runs several nodes in parallel: finishes image by image."""

    procs: list[Any]
    depidx: Any

    def _generate_dependency_list(self, graph: Any) -> None:
        """Put the nodes of an image together, so that it is finished before the next one starts.

        Nipype runs the first node that is ready. In its own order, the first step of all images
        comes before the second one of any, and all intermediate files exist at the same time.
        """
        super()._generate_dependency_list(graph)  # type: ignore[misc]
        images = [part_of(node.fullname).split("_to-")[0] for node in self.procs]
        rank = {image: number for number, image in enumerate(dict.fromkeys(images))}
        order = sorted(range(len(images)), key=lambda index: rank[images[index]])
        self.procs = [self.procs[index] for index in order]
        self.depidx = self.depidx[order, :][:, order]
        self.refidx = self.depidx.astype(int)


class _Batch(_ImageByImage):
    """Base class for batch systems."""

    def _submit_job(self, node: Any, updatehash: bool = False) -> Any:
        """Submit a node; remove its earlier result, which is out of date.

        Nipype would read that result if the job is cancelled before it starts.
        """
        for result in Path(node.output_dir()).glob("result_*.pklz"):
            result.unlink()
        return super()._submit_job(node, updatehash)  # type: ignore[misc]

    def _get_result(self, taskid: Any) -> Any:
        """Return the result of a job, with the traceback as a list of lines.

        Where there is no result, Nipype 1.11 gives the traceback as one text, and then stops the
        whole run when it adds lines to it.
        """
        result = super()._get_result(taskid)  # type: ignore[misc]
        if result is not None and isinstance(result["traceback"], str):
            result["traceback"] = result["traceback"].splitlines(keepends=True)
        return result


class _Slurm(_Batch):
    """Base class for SLURM."""

    def _get_result(self, taskid: Any) -> Any:
        """Return the result of a job; where there is none, with the state in which it ended."""
        result = super()._get_result(taskid)
        if result is not None and is_lost("".join(result["traceback"] or "")):
            result["traceback"].append(f"\n{STATE}{end_of(taskid)}\n")
        return result


def make_plugin(name: str, arguments: dict[str, Any]) -> Any:
    """Return a plugin of Nipype by its name.

    Parameters
    ----------
    name : str
        One of :data:`nipype_quicksilver.execution.resources.PLUGINS`.
    arguments : dict
        Its arguments.
    """
    if name == "Linear":
        return _Linear(plugin_args=arguments)
    plugin = Processes if name == "MultiProc" else getattr(plugins, f"{name}Plugin")
    batch = {**dict.fromkeys(BATCH_SYSTEMS, _Batch), "SLURM": _Slurm}
    plugin = type(f"{name}Plugin", (batch.get(name, _ImageByImage), plugin), {})
    return plugin(plugin_args=arguments)


def read_arguments(path: Path | None, plugin: str) -> dict[str, Any]:
    """Read a file of arguments of a plugin.

    Parameters
    ----------
    path : Path or None
        JSON, see :func:`check_arguments`.
    plugin : str
        One of :data:`nipype_quicksilver.execution.resources.PLUGINS`.

    Returns
    -------
    dict
        Content of the file; empty without a file.

    Raises
    ------
    InputError
        If the file cannot be read, or has arguments that are unknown to the plugin.
    """
    if path is None:
        return {}
    content = read_json(path, "plugin's arguments", "correct the file")
    return check_arguments(content, path, plugin)
