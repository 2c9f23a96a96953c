"""The momentum of whole images from a network that predicts it patch by patch.

A window slides over both images (Yang et al. 2017, section 2.2). Windows in which both images are
zero are skipped, and the momentum there is zero; where windows overlap, their predictions are
averaged.
"""

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from nipype_quicksilver.errors import InputError, is_out_of_memory

#: Called with the number of finished windows and the number of all windows.
Progress = Callable[[int, int], None]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}

#: Data types in which convolutions can be computed.
PRECISIONS = ("float32", *_HALF)

_logger = logging.getLogger(__name__)


@dataclass
class _Replica:
    """A copy of the network on one device, and the number of windows in a batch there."""

    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    device: torch.device
    batch_size: int


class PatchPredictor:
    """Predict the momentum of whole images with a network of patches, on one or more devices.

    Parameters
    ----------
    network : nn.Module
        Called with moving and target patches (B, 1, P, P, P), it returns their momentum
        (B, 3, P, P, P). It is copied, not modified.
    patch_size : int, optional
        Side P of a window, in voxels. Default: that of the network.
    stride : int, optional
        Distance in voxels from one window to the next. Default: one less than the side, as in the
        paper.
    batch_size : int
        Number of windows in a batch; it is reduced if the memory of a device does not suffice.
    devices : sequence of torch.device or str, optional
        Devices to compute on; each has a copy of the network, and windows are distributed evenly.
        Default: the device of the network.
    precision : {'float32', 'bfloat16', 'float16'}
        Data type of the convolutions; sums are float32.
    channels_last : bool, optional
        Store the features of a voxel contiguously. Default: where it is faster, on CPUs, and on
        GPUs in half precision.
    compiled : bool
        Compile the network with `torch.compile`, for many images on a GPU: compilation takes a
        minute and needs a C++ compiler. On a CPU it is not faster, since nearly all time is spent
        in convolutions.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch_size: int | None = None,
        stride: int | None = None,
        batch_size: int = 32,
        devices: Sequence[torch.device | str] | None = None,
        precision: str = "float32",
        channels_last: bool | None = None,
        compiled: bool = False,
    ) -> None:
        self.patch_size = (
            int(getattr(network, "patch_size", 15)) if patch_size is None else patch_size
        )
        self.stride = max(self.patch_size - 1, 1) if stride is None else stride
        if not 1 <= self.stride <= self.patch_size:
            raise ValueError(
                "windows must touch: the stride must be at least 1 and at most their side"
            )
        if batch_size < 1:
            raise ValueError("a batch must contain at least one window")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision}")
        self.precision = precision
        self.compiled = compiled
        chosen = (
            [_device_of(network)] if devices is None else [torch.device(name) for name in devices]
        )
        if not chosen:
            raise ValueError("give at least one device")
        self._replicas = [
            _Replica(self._copy(network, device, channels_last), device, batch_size)
            for device in chosen
        ]

    def _copy(
        self, network: nn.Module, device: torch.device, channels_last: bool | None
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        replica = copy.deepcopy(network).to(device).requires_grad_(False).eval()
        if channels_last is None:
            channels_last = device.type == "cpu" or self.precision != "float32"
        if channels_last:
            for weights in replica.parameters():
                if weights.dim() == 5:
                    weights.data = weights.data.contiguous(memory_format=torch.channels_last_3d)
        return torch.compile(replica, dynamic=False) if self.compiled else replica

    @torch.no_grad()
    def __call__(
        self, moving: torch.Tensor, target: torch.Tensor, progress: Progress | None = None
    ) -> torch.Tensor:
        """Return the momentum of images.

        Parameters
        ----------
        moving, target : torch.Tensor
            (B, 1, X, Y, Z), on one grid, zero in the background.
        progress : callable, optional
            Called after every batch with the number of finished windows and that of all windows.
            With several devices it is called from threads, one at a time.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z), float32, on the device of `moving`; zero outside all windows.

        Raises
        ------
        InputError
            If the memory of a device does not suffice for a single window.
        """
        if moving.shape != target.shape or moving.dim() != 5 or moving.shape[1] != 1:
            raise ValueError(
                f"images must be (B, 1, X, Y, Z) on one grid, not {tuple(moving.shape)} "
                f"and {tuple(target.shape)}"
            )
        size = moving.shape[2:]
        images = _pad(
            torch.cat((moving.float(), target.to(moving).float()), dim=1), self.patch_size
        )
        windows = select_windows(images, self.patch_size, self.stride)
        momentum = self._sum(images, windows, progress)
        momentum /= _coverage(images, windows, self.patch_size).clamp(min=1)
        x, y, z = size
        return momentum[..., :x, :y, :z].contiguous()

    def _sum(
        self, images: torch.Tensor, windows: torch.Tensor, progress: Progress | None
    ) -> torch.Tensor:
        """Return the sum of the predictions of all windows, (B, 3, X, Y, Z)."""
        count = _Counter(len(windows), progress)
        if len(self._replicas) == 1:
            return self._sum_on(self._replicas[0], images, windows, count).to(images.device)
        total = images.new_zeros((len(images), 3, *images.shape[2:]))
        with ThreadPoolExecutor(len(self._replicas)) as pool:
            try:
                parts = [
                    pool.submit(
                        self._sum_on, replica, images, windows[i :: len(self._replicas)], count
                    )
                    for i, replica in enumerate(self._replicas)
                ]
                # In the order of the devices, so that rounding does not depend on their speed.
                for part in parts:
                    total += part.result().to(total.device)
            finally:
                count.stop()  # otherwise the other threads would continue after an error
        return total

    @torch.no_grad()  # threads do not inherit it
    def _sum_on(
        self, replica: _Replica, images: torch.Tensor, windows: torch.Tensor, count: "_Counter"
    ) -> torch.Tensor:
        """Return the sum of the predictions of some windows, computed on one device."""
        images = images.to(replica.device)
        total = images.new_zeros((len(images), 3, *images.shape[2:]))
        done = 0
        while done < len(windows) and not count.stopped:
            batch = windows[done : done + replica.batch_size]
            predicted = self._predict(replica, images, batch)
            if predicted is None:
                continue
            for (image, *start), patch in zip(batch.tolist(), predicted, strict=True):
                total[(image, slice(None), *_slices(start, self.patch_size))] += patch
            done += len(batch)
            count.add(len(batch))
        return total

    def _predict(
        self, replica: _Replica, images: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the momentum in windows, (N, 3, P, P, P); None if the batch had to be reduced."""
        half = torch.autocast(
            replica.device.type,
            dtype=_HALF.get(self.precision),
            enabled=self.precision in _HALF,
        )
        size = len(windows)
        # A network is compiled for one batch size; compiling for another would take a minute.
        missing = replica.batch_size - size if self.compiled else 0
        try:
            patches = cut_patches(images, windows, self.patch_size)
            if missing:
                patches = functional.pad(patches, (0,) * 9 + (missing,))
            with half:
                return replica.network(patches[:, :1], patches[:, 1:]).float()[:size]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, since the exception keeps the tensors of the failed pass in memory.
        _shrink(replica, size + missing)
        return None


def window_starts(length: int, patch_size: int, stride: int) -> list[int]:
    """Return the first voxels of the windows along one axis; the last one ends with the axis.

    Examples
    --------
    >>> window_starts(43, 15, 14)
    [0, 14, 28]
    >>> window_starts(40, 15, 14)
    [0, 14, 25]
    """
    last = length - patch_size
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def select_windows(images: torch.Tensor, patch_size: int, stride: int) -> torch.Tensor:
    """Return the windows in which an image is not zero.

    Parameters
    ----------
    images : torch.Tensor
        (B, C, X, Y, Z), zero in the background; each side at least that of a window.
    patch_size, stride : int
        Side of a window, and distance from one to the next, in voxels.

    Returns
    -------
    torch.Tensor
        (N, 4), on the CPU: index in the batch and first voxel along each axis of every window in
        which any of the C images is not zero.
    """
    axes = [torch.arange(len(images))]
    axes += [torch.tensor(window_starts(n, patch_size, stride)) for n in images.shape[2:]]
    windows = torch.cartesian_prod(*axes)
    nonzero = (images != 0).any(dim=1, keepdim=True)
    inside = cut_patches(nonzero, windows, patch_size).flatten(start_dim=1).any(dim=1)
    return windows[inside.cpu()]


def cut_patches(images: torch.Tensor, windows: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Return the patches of images.

    Parameters
    ----------
    images : torch.Tensor
        (B, C, X, Y, Z).
    windows : torch.Tensor
        (N, 4), as from :func:`select_windows`.
    patch_size : int
        Side P.

    Returns
    -------
    torch.Tensor
        (N, C, P, P, P).
    """
    views = images
    for axis in (2, 3, 4):
        views = views.unfold(axis, patch_size, 1)
    image, x, y, z = windows.to(images.device).unbind(dim=1)
    return views[image, :, x, y, z]


def _device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's weights."""
    return next((weights.device for weights in network.parameters()), torch.device("cpu"))


def _pad(images: torch.Tensor, side: int) -> torch.Tensor:
    """Return images padded with zeros at the end of each axis that is shorter than a window."""
    missing = [max(side - n, 0) for n in images.shape[2:]]
    x, y, z = missing
    return functional.pad(images, (0, z, 0, y, 0, x)) if any(missing) else images


def _coverage(images: torch.Tensor, windows: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Return the number of windows over each voxel, (B, 1, X, Y, Z)."""
    count = torch.zeros((len(images), 1, *images.shape[2:]))
    for image, *start in windows.tolist():
        count[(image, 0, *_slices(start, patch_size))] += 1
    return count.to(images.device)


def _slices(start: Sequence[int], side: int) -> tuple[slice, ...]:
    """Return the slices of a window along the axes."""
    return tuple(slice(first, first + side) for first in start)


def _shrink(replica: _Replica, size: int) -> None:
    """Halve the batches of a device that ran out of memory for `size` windows."""
    if size == 1:
        raise InputError(
            f"device {replica.device}: its memory does not suffice for one patch; free some, or "
            "compute on another device"
        )
    replica.batch_size = size // 2
    if replica.device.type == "cuda":
        torch.cuda.empty_cache()
    _logger.warning(
        "device %s: its memory does not suffice for %d patches at once; continuing with %d",
        replica.device,
        size,
        replica.batch_size,
    )


class _Counter:
    """Number of finished windows, counted from several threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total = total
        self.progress = progress
        self.done = 0
        self.stopped = False
        self.lock = threading.Lock()

    def add(self, number: int) -> None:
        with self.lock:
            self.done += number
            if self.progress is not None and not self.stopped:
                self.progress(self.done, self.total)

    def stop(self) -> None:
        self.stopped = True
