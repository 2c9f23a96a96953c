"""What is installed and whether it works: ``python -m nipype_quicksilver doctor``.

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

#: Distributions whose versions are told.
PACKAGES = (
    *("torch", "nipype", "numpy", "scipy", "nibabel", "nitransforms", "SimpleITK", "nilearn"),
    *("matplotlib", "safetensors", "traits", "deepbet"),
)
#: Other programs and packages, by what they are good for: programs on the PATH, modules.
ENGINES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "deepbet (brain extraction)": ((), ("deepbet",)),
    "FSL (bet, flirt)": (("bet", "flirt"), ()),
    "SynthStrip": (("mri_synthstrip",), ()),
    "AFNI (3dSkullStrip)": (("3dSkullStrip",), ()),
    "ANTs": (("antsRegistration",), ("ants",)),
    "greedy": (("greedy",), ("picsl_greedy",)),
    "NiftyReg": (("reg_aladin",), ()),
    "Graphviz (graphs of workflows)": (("dot",), ()),
    "pybids (cohorts)": ((), ("bids",)),
    "TemplateFlow (templates)": ((), ("templateflow",)),
    "TensorBoard (training)": ((), ("tensorboard",)),
}
GOOD, BAD, NOTE = "good", "bad", "note"

#: Bytes that a registration of whole heads writes to the temporary folder and keeps in memory.
_DISK, _MEMORY = 2e9, 4e9
# The self-test: voxels along an axis, width and height of a bump, and what may be wrong after a
# shoot (mean, voxels) and left by a registration (share of the bump).
_SIDE, _WIDTH, _HEIGHT = 32, 6.0, 2.0
_INCONSISTENT, _LEFT = 0.01, 0.5


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    part, name : str
        Heading and what was looked at.
    text : str
        What was found; no path of the user's but for the temporary folder.
    state : str
        ``good``; ``note``, where something is not there or is worth knowing; ``bad``.
    """

    part: str
    name: str
    text: str
    state: str = GOOD


def examine(work_dir: Path | None = None, device: str = "auto") -> list[Finding]:
    """Look at everything, and test shooting and registration.

    Parameters
    ----------
    work_dir : Path, optional
        Folder for intermediate files that is looked at; the temporary one unless given.
    device : str
        Where the test computes: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    list of Finding
        In the order in which they are shown. Something that is broken is a finding, never an
        exception.
    """
    parts: tuple[Callable[[], list[Finding]], ...] = (
        _system,
        _packages,
        _devices,
        lambda: _space(work_dir or Path(tempfile.gettempdir())),
        _engines,
        _networks,
        lambda: _self_test(device),
    )
    found: list[Finding] = []
    for part in parts:
        try:
            found += part()
        except Exception as error:
            found.append(Finding("broken", *_described(error)))
    return found


def _described(error: Exception) -> tuple[str, str, str]:
    """Return name, text and state of a finding that could not be made."""
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
    found = []
    for name in PACKAGES:
        try:
            found.append(Finding(part, name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(part, name, "is not installed; install this package again", BAD))
    return found


def _devices() -> list[Finding]:
    import torch

    part = "devices"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpus = f"{os.cpu_count()}, of which this process may use {usable}"
    settings = {
        name: os.environ[name]
        for name in (
            "OMP_NUM_THREADS",
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
            "CUDA_VISIBLE_DEVICES",
        )
        if name in os.environ
    }
    found = [Finding(part, "CPUs", cpus)]
    memory = _memory()
    if memory is not None:
        state = GOOD if memory > _MEMORY else NOTE
        advice = "" if state == GOOD else f"; a registration takes up to {_MEMORY / 1e9:.0f} GB"
        found.append(Finding(part, "memory", f"{memory / 1e9:.1f} GB free{advice}", state))
    if settings:
        text = ", ".join(f"{name}={value}" for name, value in settings.items())
        found.append(Finding(part, "set by the environment", text))
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            "torch is built for CPUs only" if built is None else f"torch for CUDA {built} sees none"
        )
        return [*found, Finding(part, "GPU", f"none: {why}; everything works on the CPU", NOTE)]
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        text = f"{device.name}, {device.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
        found.append(Finding(part, f"GPU {number}", text))
    return found


def _memory() -> int | None:
    """Return the bytes of memory that are free, where the system tells."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _space(folder: Path) -> list[Finding]:
    shown = str(folder.absolute()).replace(str(Path.home()), "~", 1)  # no name of a user
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


def _engines() -> list[Finding]:
    found = []
    for name, (programs, modules) in ENGINES.items():
        here = [program for program in programs if shutil.which(program) is not None]
        here += [f"{module} (Python)" for module in modules if find_spec(module) is not None]
        wanted = [*programs, *(f"{module} (Python)" for module in modules)]
        if here:
            found.append(Finding("engines", name, ", ".join(here)))
        else:
            text = f"not installed ({' or '.join(wanted)})"
            found.append(Finding("engines", name, text, NOTE))
    return found


def _networks() -> list[Finding]:
    from nipype_quicksilver.errors import InputError
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    part = "networks"
    folder = data_file("networks")
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            _, card = load_checkpoint(path)
        except InputError as error:
            text = str(error).removeprefix(f"{path}: ") + "; install this package again"
            found.append(Finding(part, path.stem, text, BAD))
        else:
            found.append(Finding(part, path.stem, f"SHA-256 {card.sha256[:12]}... is right"))
    if not found:
        text = "none came with this installation; install the package again"
        found.append(Finding(part, "shipped networks", text, BAD))
    return found


def _self_test(device: str) -> list[Finding]:
    from nipype_quicksilver.execution.devices import select_device

    where = select_device(device)
    tests = {"shooting": _test_shooting, "registration": _test_registration}
    return [_tested(f"{name} ({where})", test, where) for name, test in tests.items()]


def _tested(
    name: str, test: Callable[[torch.device], tuple[bool, str]], device: torch.device
) -> Finding:
    """Run a test; that it breaks is a finding."""
    start = time.perf_counter()
    try:
        passed, text = test(device)
    except Exception as error:
        passed, text = False, f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    return Finding("self-test", name, f"{text} ({seconds:.1f} s)", GOOD if passed else BAD)


def _bump(device: torch.device) -> torch.Tensor:
    """Return a displacement along x, (1, 3, X, Y, Z), high in the middle."""
    import torch

    x = torch.arange(_SIDE, dtype=torch.float32) - (_SIDE - 1) / 2
    squares = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2
    field = torch.zeros((1, 3, _SIDE, _SIDE, _SIDE))
    field[:, 0] = _HEIGHT * torch.exp(-squares / (2 * _WIDTH**2))
    return field.to(device)


def _test_shooting(device: torch.device) -> tuple[bool, str]:
    """Shoot a bump; both maps must be inverse to each other."""
    from nipype_quicksilver.lddmm.fields import compose
    from nipype_quicksilver.lddmm.kernel import KernelOperator
    from nipype_quicksilver.lddmm.settings import Kernel
    from nipype_quicksilver.lddmm.shooting import shoot

    bump = _bump(device)
    kernel = Kernel(alpha=4.0, beta=0.0, gamma=1.0, power=2)
    operator = KernelOperator(kernel, (_SIDE,) * 3, 1.0, bump.dtype, device)
    geodesic = shoot(operator.sharpen(bump), operator, steps=5, both=True)
    assert geodesic.forward is not None
    apart = float(compose(geodesic.inverse, geodesic.forward).norm(dim=1).mean())
    far = float(geodesic.forward.norm(dim=1).max())
    passed = apart < _INCONSISTENT and 0.9 * _HEIGHT < far < 1.1 * _HEIGHT
    return passed, f"moved by {far:.2f} mm, there and back {apart:.4f} mm"


def _test_registration(device: torch.device) -> tuple[bool, str]:
    """Register an image to itself, bent by a bump, which must be found."""
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
    found = optimize(sample(moving, truth), moving, settings)
    inverse = shoot(found.momentum, found.operator, steps=found.steps).inverse
    inside = truth.norm(dim=1) > _HEIGHT / 4
    left = (upsample(inverse, settings.velocity) - truth).norm(dim=1)[inside].mean()
    share = float(left / truth.norm(dim=1)[inside].mean())
    return share < _LEFT, f"{100 * share:.0f}% of a known deformation is left"
