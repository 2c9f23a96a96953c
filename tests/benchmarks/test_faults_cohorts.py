"""A short form of the benchmark on killed cohorts, with simulated commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import cohorts
from tests.cli.test_cohort_faults import BARE, write_table

ROOT = Path(cohorts.__file__).parents[2]
#: Runs the command of a cohort with nodes that take a moment, and write the moving image.
PROGRAM = """\
import sys, subprocess
from pytest import MonkeyPatch
from nipype_quicksilver.cli.main import main
from tests.helpers.simulation import simulate, write_outputs
def command(node, runtime):
    code = subprocess.run(["sleep", "0.3"]).returncode
    if code:
        runtime.returncode, runtime.cmdline = code, "sleep"
        runtime.stdout = runtime.stderr = ""
        node.raise_exception(runtime)
    return write_outputs(node, runtime)
simulate(MonkeyPatch(), command)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts a cohort of simulated registrations."""
    table = write_table(tmp_path, [(f"good{n}.nii.gz",) for n in (1, 2)])

    def start(out, work_dir):
        words = ["cohort", table, out, "participant", *BARE, "--quiet"]
        words += ["--work-dir", work_dir, "--n-procs", 2]
        command = [sys.executable, "-c", PROGRAM, *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    return start


def test_killed_cohorts_lose_nothing_and_two_in_one_folder_do_not_mix(start, tmp_path):
    expected = cohorts.undisturbed(start, tmp_path)
    assert len(expected) == 8
    figures = cohorts.kill(start, tmp_path, expected, 3, pause=(0.5, 2.0))
    assert sum(figures["killed"].values()) == 3
    for name in ("hanging", "damaged_sets", "other_bytes", "left_files", "unexplained"):
        assert figures[name] == 0, figures
    assert cohorts.race(start, tmp_path, expected, 1) == {"races": 1, "refused": 1, "mixed": 0}
