"""A short form of the benchmark on killed cohorts, with simulated commands."""

import pytest

from benchmarks.faults import cohorts
from tests.cli.test_cohort_faults import BARE, write_table
from tests.helpers import simulation


@pytest.fixture
def start(tmp_path):
    """A function that starts a cohort of simulated registrations."""
    table = write_table(tmp_path, [(f"good{n}.nii.gz",) for n in (1, 2)])

    def start(out, work_dir):
        words = ["cohort", table, out, "participant", *BARE, "--quiet"]
        return simulation.start([*words, "--work-dir", work_dir, "--n-procs", 2], 0.3)

    return start


def test_killed_cohorts_lose_nothing_and_two_in_one_folder_do_not_mix(start, tmp_path):
    expected = cohorts.undisturbed(start, tmp_path)
    assert len(expected) == 8
    figures = cohorts.kill(start, tmp_path, expected, 3, pause=(0.5, 2.0))
    assert sum(figures["killed"].values()) == 3
    for name in ("hanging", "damaged_sets", "other_bytes", "left_files", "unexplained"):
        assert figures[name] == 0, figures
    assert cohorts.race(start, tmp_path, expected, 1) == {"races": 1, "refused": 1, "mixed": 0}
