"""Earlier names of modules work, with a warning."""

import importlib
import subprocess
import sys

import pytest

from nipype_quicksilver.moved import MOVED


@pytest.mark.parametrize("earlier", MOVED)
def test_the_earlier_name_of_a_module(earlier):
    sys.modules.pop(f"nipype_quicksilver.{earlier}", None)
    with pytest.warns(DeprecationWarning, match=f"is called nipype_quicksilver.{MOVED[earlier]}"):
        module = importlib.import_module(f"nipype_quicksilver.{earlier}")
    present = importlib.import_module(f"nipype_quicksilver.{MOVED[earlier]}")
    public = [name for name in vars(present) if not name.startswith("_")]
    assert public and all(getattr(module, name) is getattr(present, name) for name in public)


def test_a_name_from_the_earlier_module():
    code = (
        "from nipype_quicksilver.spatial.evaluation import label_overlap as f; print(f.__module__)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "nipype_quicksilver.spatial.measures\n"
    assert "DeprecationWarning: nipype_quicksilver.spatial.evaluation is called" in run.stderr


def test_a_module_that_never_was():
    with pytest.raises(ModuleNotFoundError, match=r"spatial\.nonsense"):
        importlib.import_module("nipype_quicksilver.spatial.nonsense")


@pytest.mark.parametrize(
    ("earlier", "arguments", "output"),
    [
        ("nipype_quicksilver.cli", ["--version"], "quicksilver "),
        ("nipype_quicksilver.doctor", ["--help"], "usage: quicksilver doctor"),
    ],
)
def test_an_earlier_name_of_the_command(earlier, arguments, output):
    words = [sys.executable, "-W", "always", "-m", earlier, *arguments]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(output)
    assert f"DeprecationWarning: python -m {earlier} is called" in run.stderr
