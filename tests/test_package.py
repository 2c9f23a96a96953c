import configparser
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nipype_quicksilver

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "numpy", "scipy", "nibabel", "nipype", "SimpleITK", "nitransforms", "matplotlib")


def run_python(code, *, cwd=None):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd
    ).stdout


def configuration():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.mark.parametrize(
    "statement",
    [
        "import nipype_quicksilver",
        "import nipype_quicksilver.options, nipype_quicksilver.tools",
        "from nipype_quicksilver import InputError",
        "from nipype_quicksilver.cli.main import main; assert main(['--help']) == 0",
        "from nipype_quicksilver.cli.main import main; assert main(['apply', '--help']) == 0",
        "from nipype_quicksilver.cli.main import main; assert main(['--version']) == 0",
        "from nipype_quicksilver.cli.main import main; assert main(['apply']) == 2",
    ],
)
def test_heavy_libraries_are_not_imported(statement):
    code = f"{statement}; import sys; print('loaded:', [m for m in {HEAVY} if m in sys.modules])"
    assert run_python(code).splitlines()[-1] == "loaded: []"


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nipype_quicksilver.nonsense


def test_lazy_names_are_listed_and_found():
    from nipype_quicksilver.errors import InputError

    assert set(nipype_quicksilver.__all__) <= set(dir(nipype_quicksilver))
    assert nipype_quicksilver.InputError is InputError


def test_every_folder_of_code_is_a_package_that_is_installed():
    listed = set(configuration()["options"]["packages"].split())
    folders = {
        "nipype_quicksilver" + "".join(f".{part}" for part in file.parent.parts)
        for file in (
            path.relative_to(ROOT / "nipype_quicksilver")
            for path in (ROOT / "nipype_quicksilver").rglob("*.py")
        )
    }
    assert listed == folders | {"nipype_quicksilver.workflows"}
    for name in listed:
        assert importlib.import_module(name).__file__, name


def test_every_file_of_data_is_installed():
    patterns = configuration()["options.package_data"]["nipype_quicksilver.data"].split(", ")
    folder = ROOT / "nipype_quicksilver" / "data"
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"]
    assert files
    for file in files:
        assert any(file.match(pattern) for pattern in patterns), file


def test_workflows_are_importable_from_anywhere(tmp_path):
    code = "import nipype_quicksilver.workflows as w; print(w.__file__)"
    assert Path(run_python(code, cwd=tmp_path).split()[-1]).name == "__init__.py"


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {nipype_quicksilver.__version__}\n" in citation


def test_mypy_checks_packages_that_exist():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    listed = set(configuration()["options"]["packages"].split())
    assert set(tools["mypy"]["packages"]) <= listed
