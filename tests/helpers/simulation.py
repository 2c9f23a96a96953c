"""Nodes of a cohort that write small files instead of running a command."""

import os
import subprocess
import sys
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


def start(arguments, seconds):
    """Start the command in a process of its own; each of its nodes sleeps, and then writes."""
    root = Path(__file__).parents[2]
    program = [sys.executable, "-m", "tests.helpers.simulation", str(seconds)]
    return subprocess.Popen(
        [*program, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def main(seconds, *arguments):
    """Run the command with nodes that sleep in a process of their own."""
    from pytest import MonkeyPatch

    from nipype_quicksilver.cli.main import main

    def command(node, runtime):
        # It may outlive a killed worker, and must not keep the streams open.
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        runtime.returncode = subprocess.run(["sleep", seconds], **nowhere).returncode
        if runtime.returncode:
            runtime.cmdline, runtime.stdout, runtime.stderr = "sleep", "", ""
            node.raise_exception(runtime)
        return write_outputs(node, runtime)

    simulate(MonkeyPatch(), command)
    return main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
