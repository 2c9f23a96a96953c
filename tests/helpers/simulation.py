"""Nodes of a cohort that write small files instead of running a command."""

from pathlib import Path

from nipype_quicksilver.interfaces import RegistrationReport
from nipype_quicksilver.interfaces.base import QuicksilverCommand


def write_outputs(node, runtime):
    """Write the moving image as every output of a command."""
    inputs = node.inputs.trait_get()
    image = Path(inputs.get("moving_image") or inputs["in_file"]).read_bytes()
    for value in node._list_outputs().values():
        for file in value if isinstance(value, list) else [value]:
            if isinstance(file, str):
                path = Path(file)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"{}" if path.suffix == ".json" else image)
    return runtime


def write_page(node, runtime):
    """Write a page instead of the report on a registration."""
    Path(node._list_outputs()["out_file"]).write_text("<html></html>", encoding="utf-8")
    return runtime


def simulate(monkeypatch, command=write_outputs):
    """Replace the commands of nodes, and reports, also in worker processes."""
    monkeypatch.setattr(QuicksilverCommand, "_run_interface", command)
    monkeypatch.setattr(RegistrationReport, "_run_interface", write_page)
