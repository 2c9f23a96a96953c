"""Workflows with a paragraph on methods, which niworkflows collects from all parts of a host."""

from __future__ import annotations

import json
import re
import sys

from nipype.pipeline.engine import Workflow

from nipype_quicksilver.data import data_file

_CITATION = re.compile(r"\[@(\w+)\]")


def described_workflow(name: str, description: str) -> Workflow:
    """Return an empty workflow with a paragraph on methods, its ``__desc__``.

    niworkflows collects paragraphs (``visit_desc``) only from workflows of its own class. The
    workflow is one of these if niworkflows has been imported, as any such host does first; it is
    not imported here, since that changes the backend of matplotlib.

    Parameters
    ----------
    name : str
        Name of the workflow.
    description : str
        The paragraph. Citations of this package's references become text, since the bibliography
        of a host does not contain them; others, such as ``[@templateflow]``, are left to the host.

    Returns
    -------
    Workflow
        To be filled with nodes.

    Examples
    --------
    >>> described_workflow("wf", "By shooting [@quicksilver], in R [@r].").__desc__
    'By shooting (Yang et al., 2017, https://doi.org/10.1016/j.neuroimage.2017.07.008), in R [@r].'
    """
    engine = sys.modules.get("niworkflows.engine.workflows")
    workflow = Workflow(name) if engine is None else engine.LiterateWorkflow(name)
    workflow.__desc__ = _CITATION.sub(_as_text, description)
    return workflow


def _as_text(citation: re.Match[str]) -> str:
    """Return a citation as text, or unchanged if it is not one of this package."""
    references = json.loads(data_file("references.json").read_text(encoding="utf-8"))
    reference = references.get(citation[1])
    if reference is None:
        return citation[0]
    return f"({reference['cite']}, https://doi.org/{reference['doi']})"
