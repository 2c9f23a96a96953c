"""Nipype's plugins for batch systems, with two faults mended where jobs vanish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.pipeline import plugins

from nipype_quicksilver.cohort.resources import LOCAL


class _Mended:
    """What comes before a batch plugin of Nipype's in the order of methods."""

    def _submit_job(self, node: Any, updatehash: bool = False) -> Any:
        """Submit a node whose earlier result, if any, is out of date.

        Nipype would take that for the new one if the job is cancelled before it starts.
        """
        for result in Path(node.output_dir()).glob("result_*.pklz"):
            result.unlink()
        return super()._submit_job(node, updatehash)  # type: ignore[misc]

    def _get_result(self, taskid: Any) -> Any:
        """Return the result of a job, or why there is none.

        Nipype 1.11 gives the latter as one text, and stops the whole run when it adds lines to it.
        """
        result = super()._get_result(taskid)  # type: ignore[misc]
        if result is not None and isinstance(result["traceback"], str):
            result["traceback"] = result["traceback"].splitlines(keepends=True)
        return result


def make_plugin(name: str, arguments: dict[str, Any]) -> Any:
    """Return a plugin of Nipype's by its name.

    Parameters
    ----------
    name : str
        One of :data:`nipype_quicksilver.cohort.resources.PLUGINS`.
    arguments : dict
        Its arguments.
    """
    plugin = getattr(plugins, f"{name}Plugin")
    if name not in LOCAL:
        plugin = type(f"{name}Plugin", (_Mended, plugin), {})
    return plugin(plugin_args=arguments)
