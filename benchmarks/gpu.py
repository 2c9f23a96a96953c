"""Methods and the paper's network on a GPU and on the CPU: seconds, memory, and equal maps."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from benchmarks.data import real_pair
from benchmarks.tables import show
from nipype_quicksilver.execution.provenance import Clock
from nipype_quicksilver.methods import METHODS
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import PatchPredictor
from nipype_quicksilver.options import completed
from nipype_quicksilver.registration.alignment import Context, to_aligned_brains
from nipype_quicksilver.registration.fit import find_momentum
from nipype_quicksilver.registration.method import choose_method
from nipype_quicksilver.registration.pair import ScanFiles, read_pair
from nipype_quicksilver.registration.preparation import Prepared, prepare
from nipype_quicksilver.registration.work_folder import WorkFolder

# Variants of the paper's network: precision, and whether it is compiled.
VARIANTS = (("float32", False), ("bfloat16", False), ("float16", False), ("bfloat16", True))
BATCH = 64


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """Register the real pair by every method on every device; print and return the figures."""
    torch.set_num_threads(threads)
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    prepared = _prepared()
    figures = {
        "methods": _methods(prepared, devices, runs),
        "patches": _patches(prepared, devices[-1], runs),
    }
    title = "Real pair, from arrays to arrays"
    if devices[-1].type == "cuda":
        title += f"; GPU: {torch.cuda.get_device_name()}"
    table = Table("method", "device", "s", "GB on it", "from the CPU's map: mean mm", title=title)
    for name, rows in figures["methods"].items():
        for device, f in rows.items():
            table.add_row(name, device, *(_text(f.get(key)) for key in ("seconds", "gb", "mm")))
    show(table)
    table = Table(
        "the paper's network", "s", "GB", "from float32: relative", title=str(devices[-1])
    )
    for name, f in figures["patches"].items():
        table.add_row(name, *(_text(f.get(key)) for key in ("seconds", "gb", "distance")))
    show(table)
    return figures


def _prepared() -> Prepared:
    pair = real_pair()
    options = completed({"brain_extraction": "none"})
    context = Context(options, WorkFolder(None), torch.device("cpu"), Clock())
    scans = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    return prepare(to_aligned_brains(scans, context)[0], {})


def _methods(
    prepared: Prepared, devices: list[torch.device], runs: int
) -> dict[str, dict[str, dict[str, float]]]:
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in METHODS:
        method, expected = choose_method(completed({"method": name})), None
        figures[name] = {}
        for device in devices:
            fit, cost = _measured(
                lambda m=method, d=device: find_momentum(
                    prepared, m, device=d, seed=0, clock=Clock()
                ),
                device,
                runs,
            )
            inverse = fit.maps.inverse
            expected = inverse if expected is None else expected
            distance = float(np.linalg.norm(inverse - expected, axis=-1).mean())
            figures[name][device.type] = {**cost, "mm": distance}
    return figures


def _patches(prepared: Prepared, device: torch.device, runs: int) -> dict[str, dict[str, float]]:
    """Predict the real pair with untrained weights, which take as long as trained ones."""
    torch.manual_seed(0)
    network = PatchNetwork()
    images = [
        torch.from_numpy(image)[None, None].float().to(device)
        for image in (prepared.moving, prepared.fixed)
    ]
    figures, expected = {}, None
    for precision, compiled in VARIANTS:
        predict = PatchPredictor(
            network, devices=[device], precision=precision, compiled=compiled, batch_size=BATCH
        )
        momentum, cost = _measured(lambda p=predict: p(*images), device, runs)
        expected = momentum if expected is None else expected
        distance = float((momentum - expected).norm() / expected.norm())
        name = f"{precision}, compiled" if compiled else precision
        figures[name] = {**cost, "distance": distance}
        if device.type == "cpu":
            break  # minutes each
    return figures


def _measured(
    call: Callable[[], Any], device: torch.device, runs: int
) -> tuple[Any, dict[str, float]]:
    """Return the result of a call, and its seconds: a median on a GPU, of one call on a CPU.

    The first call on a GPU initialises it, and is not counted. The memory is the peak of the GPU
    memory that torch reserved.
    """
    if device.type != "cuda":
        start = time.perf_counter()
        return call(), {"seconds": time.perf_counter() - start}
    call()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    gb = torch.cuda.max_memory_reserved() / 1e9
    return result, {"seconds": float(np.median(seconds)), "gb": gb}


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"
