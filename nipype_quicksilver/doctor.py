"""Checks of the installation: ``python -m nipype_quicksilver doctor``.

Importing this module is cheap; libraries are imported by the functions that need them.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from nipype_quicksilver.data import data_file
from nipype_quicksilver.execution.resources import available_cpus
from nipype_quicksilver.steps import DEVICE
from nipype_quicksilver.tools import (
    AFFINE_TOOLS,
    ANTS_BRAIN_EXTRACTION,
    BRAIN_EXTRACTION_TOOLS,
    PEERS,
    ExternalTool,
)

#: Distributions whose versions are reported.
PACKAGES = (
    *("torch", "nipype", "numpy", "scipy", "nibabel", "nitransforms", "SimpleITK", "nilearn"),
    *("matplotlib", "safetensors", "traits", "deepbet"),
)
#: External tools, each once.
TOOLS: tuple[ExternalTool, ...] = tuple(
    dict.fromkeys(
        (
            *BRAIN_EXTRACTION_TOOLS.values(),
            ANTS_BRAIN_EXTRACTION,
            *AFFINE_TOOLS.values(),
            *PEERS.values(),
        )
    )
)
#: Optional programs on the PATH and Python modules, by their titles.
OPTIONAL_PROGRAMS = {"Graphviz (graphs of workflows)": "dot"}
OPTIONAL_MODULES = {
    "pybids (cohorts)": "bids",
    "TemplateFlow (templates)": "templateflow",
    "TensorBoard (training)": "tensorboard",
}
GOOD, BAD, NOTE = "good", "bad", "note"

#: Bytes that a registration of whole heads writes to the temporary folder, and that it allocates.
_DISK, _MEMORY = 2e9, 4e9
# The self-test: voxels along an axis, width and height of a bump; largest mean inverse consistency
# of a geodesic, voxels, and largest fraction of the bump that a registration may leave.
_SIDE, _WIDTH, _HEIGHT = 32, 6.0, 2.0
_INCONSISTENT, _REMAINING = 0.01, 0.5


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    part, name : str
        Heading, and what was checked.
    text : str
        Result; it contains no path of the user except for the temporary folder.
    state : str
        ``good``; ``note``, where something optional is missing or worth knowing; ``bad``.
    """

    part: str
    name: str
    text: str
    state: str = GOOD


def examine(work_dir: Path | None = None, device: str = DEVICE.default) -> list[Finding]:
    """Check everything, and test shooting and registration.

    Parameters
    ----------
    work_dir : Path, optional
        Folder for intermediate files to check; default: the temporary folder.
    device : str
        Where the tests compute: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    list of Finding
        In the order in which they are shown. What is broken is a finding, never an exception.
    """
    parts: tuple[Callable[[], list[Finding]], ...] = (
        _system,
        _packages,
        _devices,
        lambda: _space(work_dir or Path(tempfile.gettempdir())),
        _tools,
        _networks,
        lambda: _self_test(device),
    )
    findings: list[Finding] = []
    for part in parts:
        try:
            findings += part()
        except Exception as error:
            findings.append(Finding("broken", *_described(error)))
    return findings


def _described(error: Exception) -> tuple[str, str, str]:
    """Return name, text and state of a check that failed."""
    return type(error).__name__, str(error), BAD


def _system() -> list[Finding]:
    from nipype_quicksilver import __version__

    part = "system"
    libc = " ".join(platform.libc_ver()).strip()
    system = f"{platform.system()} {platform.release()} {platform.machine()} {libc}".strip()
    in_venv = " (virtual environment)" if sys.prefix != sys.base_prefix else ""
    return [
        Finding(part, "nipype-quicksilver", __version__),
        Finding(part, "Python", platform.python_version() + in_venv),
        Finding(part, "operating system", system),
    ]


def _packages() -> list[Finding]:
    part = "packages"
    findings = []
    for name in PACKAGES:
        try:
            findings.append(Finding(part, name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            text = "is not installed; install this package again"
            findings.append(Finding(part, name, text, BAD))
    return findings


def _devices() -> list[Finding]:
    import torch

    part = "devices"
    cpus = f"{os.cpu_count()}, of which this process may use {available_cpus()}"
    settings = {
        name: os.environ[name]
        for name in (
            "OMP_NUM_THREADS",
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
            "CUDA_VISIBLE_DEVICES",
        )
        if name in os.environ
    }
    findings = [Finding(part, "CPUs", cpus)]
    memory = _memory()
    if memory is not None:
        state = GOOD if memory > _MEMORY else NOTE
        advice = "" if state == GOOD else f"; a registration takes up to {_MEMORY / 1e9:.0f} GB"
        findings.append(Finding(part, "memory", f"{memory / 1e9:.1f} GB free{advice}", state))
    if settings:
        text = ", ".join(f"{name}={value}" for name, value in settings.items())
        findings.append(Finding(part, "set by the environment", text))
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            "torch is built for CPUs only" if built is None else f"torch for CUDA {built} sees none"
        )
        return [*findings, Finding(part, "GPU", f"none: {why}; everything works on the CPU", NOTE)]
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        text = f"{device.name}, {device.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
        findings.append(Finding(part, f"GPU {number}", text))
    return findings


def _memory() -> int | None:
    """Return the bytes of free memory; None where the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _space(folder: Path) -> list[Finding]:
    shown = str(folder.absolute()).replace(str(Path.home()), "~", 1)  # without the name of the user
    part, name = "disk", f"folder {shown}"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"quicksilver")
    except OSError as error:
        text = f"cannot be written to ({error.strerror}); set TMPDIR, or give --work-dir"
        return [Finding(part, name, text, BAD)]
    free = shutil.disk_usage(folder).free
    if free < _DISK:
        text = f"{free / 1e9:.1f} GB free; a registration takes up to {_DISK / 1e9:.0f} GB"
        return [Finding(part, name, text, NOTE)]
    return [Finding(part, name, f"can be written to, {free / 1e9:.0f} GB free")]


def _tools() -> list[Finding]:
    return [
        *map(_external_tool, TOOLS),
        *(_optional(title, shutil.which(name), name) for title, name in OPTIONAL_PROGRAMS.items()),
        *(_optional(title, find_spec(name), name) for title, name in OPTIONAL_MODULES.items()),
    ]


def _external_tool(tool: ExternalTool) -> Finding:
    """Return how a registration would run a tool, or how to install it."""
    part, command = "external tools", tool.command()
    if command is None:
        return Finding(part, tool.title, f"not installed; {tool.install}", NOTE)
    text = tool.program if len(command) == 1 else f"{tool.package} (Python)"
    return Finding(part, tool.title, text)


def _optional(title: str, found: object, name: str) -> Finding:
    if found is None:
        return Finding("optional", title, f"not installed ({name})", NOTE)
    return Finding("optional", title, name)


def _networks() -> list[Finding]:
    from nipype_quicksilver.errors import InputError
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    part = "networks"
    folder = data_file("networks")
    findings = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            _, card = load_checkpoint(path)
        except InputError as error:
            text = str(error).removeprefix(f"{path}: ") + "; install this package again"
            findings.append(Finding(part, path.stem, text, BAD))
        else:
            findings.append(Finding(part, path.stem, f"SHA-256 {card.sha256[:12]}... is right"))
    if not findings:
        text = "none came with this installation; install the package again"
        findings.append(Finding(part, "shipped networks", text, BAD))
    return findings


def _self_test(device: str) -> list[Finding]:
    from nipype_quicksilver.execution.devices import select_device

    where = select_device(device)
    tests = {"shooting": _test_shooting, "registration": _test_registration}
    return [_tested(f"{name} ({where})", test, where) for name, test in tests.items()]


def _tested(
    name: str, test: Callable[[torch.device], tuple[bool, str]], device: torch.device
) -> Finding:
    """Run a test; an exception is a finding."""
    start = time.perf_counter()
    try:
        passed, text = test(device)
    except Exception as error:
        passed, text = False, f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    return Finding("self-test", name, f"{text} ({seconds:.1f} s)", GOOD if passed else BAD)


def _bump(device: torch.device) -> torch.Tensor:
    """Return a displacement along x, (1, 3, X, Y, Z), mm on voxels of 1 mm: a Gaussian."""
    import torch

    x = torch.arange(_SIDE, dtype=torch.float32) - (_SIDE - 1) / 2
    squares = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2
    field = torch.zeros((1, 3, _SIDE, _SIDE, _SIDE))
    field[:, 0] = _HEIGHT * torch.exp(-squares / (2 * _WIDTH**2))
    return field.to(device)


def _test_shooting(device: torch.device) -> tuple[bool, str]:
    """Shoot a bump; forward and inverse map must be consistent."""
    from nipype_quicksilver.lddmm.fields import compose
    from nipype_quicksilver.lddmm.kernel import KernelOperator
    from nipype_quicksilver.lddmm.settings import Kernel
    from nipype_quicksilver.lddmm.shooting import shoot

    bump = _bump(device)
    kernel = Kernel(alpha=4.0, beta=0.0, gamma=1.0, power=2)
    operator = KernelOperator(kernel, (_SIDE,) * 3, 1.0, bump.dtype, device)
    geodesic = shoot(operator.sharpen(bump), operator, steps=5, both=True)
    assert geodesic.forward is not None
    inconsistency = float(compose(geodesic.inverse, geodesic.forward).norm(dim=1).mean())
    largest = float(geodesic.forward.norm(dim=1).max())
    passed = inconsistency < _INCONSISTENT and 0.9 * _HEIGHT < largest < 1.1 * _HEIGHT
    return passed, f"moved by {largest:.2f} mm, inverse consistency {inconsistency:.4f} mm"


def _test_registration(device: torch.device) -> tuple[bool, str]:
    """Register an image to itself, deformed by a bump, which must be recovered."""
    import torch

    from nipype_quicksilver.lddmm.fields import sample
    from nipype_quicksilver.lddmm.grids import upsample
    from nipype_quicksilver.lddmm.optimize import optimize
    from nipype_quicksilver.lddmm.settings import Settings, Stage
    from nipype_quicksilver.lddmm.shooting import shoot
    from nipype_quicksilver.lddmm.similarity import box_mean

    truth = _bump(device)
    noise = torch.rand((1, 1, *truth.shape[2:]), generator=torch.Generator().manual_seed(0))
    moving = box_mean(noise.to(device), 2)
    moving = (moving - moving.min()) / (moving.max() - moving.min())
    settings = Settings(stages=(Stage(4, 4, 12), Stage(2, 2, 12)))
    result = optimize(sample(moving, truth), moving, settings)
    inverse = shoot(result.momentum, result.operator, steps=result.steps).inverse
    inside = truth.norm(dim=1) > _HEIGHT / 4
    error = (upsample(inverse, settings.velocity) - truth).norm(dim=1)[inside].mean()
    fraction = float(error / truth.norm(dim=1)[inside].mean())
    return fraction < _REMAINING, f"{100 * fraction:.0f}% of a known deformation remains"


if __name__ == "__main__":  # a former name of the command
    import runpy
    import warnings

    warnings.warn(
        "python -m nipype_quicksilver.doctor is called python -m nipype_quicksilver doctor since "
        "version 0.2; it goes with version 0.3",
        DeprecationWarning,
        stacklevel=1,
    )
    sys.argv.insert(1, "doctor")
    runpy.run_module("nipype_quicksilver", run_name="__main__", alter_sys=True)
