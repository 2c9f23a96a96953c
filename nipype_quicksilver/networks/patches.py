"""The momentum of whole images from a network that predicts it patch by patch.

A window slides over both images (Yang et al. 2017, section 2.2). Windows that show nothing of
either image are left out, where the momentum is zero; where windows overlap, their predictions are
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

#: Told the windows done and the windows in all.
Progress = Callable[[int, int], None]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}

#: What convolutions can be computed in.
PRECISIONS = ("float32", *_HALF)

_logger = logging.getLogger(__name__)


@dataclass
class _Replica:
    """The network on one device, and how many windows it takes at once."""

    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    device: torch.device
    batch_size: int


class PatchPredictor:
    """A network of patches, made ready to predict whole images on one device or several.

    Parameters
    ----------
    network : nn.Module
        Called with moving and target patches (B, 1, P, P, P), it returns their momentum
        (B, 3, P, P, P). It is copied, and left as it is.
    patch_size : int, optional
        Side P of a window; the network's own unless given.
    stride : int, optional
        Voxels from one window to the next; one less than the side unless given, which is the
        paper's.
    batch_size : int
        Windows that a device takes at once; fewer where its memory does not suffice.
    devices : sequence of torch.device or str, optional
        Where to compute; the network's own device unless given. The windows are dealt out evenly,
        and each device has a copy of the network.
    precision : {'float32', 'bfloat16', 'float16'}
        What the convolutions are computed in; sums are float32.
    channels_last : bool, optional
        Keep the features of a voxel side by side in memory. Unless given, so where it helps: on
        CPUs, and on GPUs in half precision.
    compiled : bool
        Compile the network with `torch.compile`, for many images on a GPU: compiling takes a minute
        and needs a C++ compiler. On a CPU nothing is gained: convolutions take nearly all the time.
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
            raise ValueError("windows must touch: the stride is at least 1 and at most their side")
        if batch_size < 1:
            raise ValueError("a batch holds at least one window")
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision}")
        self.precision = precision
        self.compiled = compiled
        places = [_home(network)] if devices is None else [torch.device(name) for name in devices]
        if not places:
            raise ValueError("give at least one device")
        self._replicas = [
            _Replica(self._copy(network, place, channels_last), place, batch_size)
            for place in places
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
            (B, 1, X, Y, Z), on one grid, zero where there is nothing.
        progress : callable, optional
            Called after every batch with the number of windows done and that of all. With several
            devices, threads call it, one at a time.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z), float32, on the device of `moving`; zero where no window was.

        Raises
        ------
        InputError
            If the memory of a device does not suffice for a single window.
        """
        if moving.shape != target.shape or moving.dim() != 5 or moving.shape[1] != 1:
            raise ValueError(
                f"images are (B, 1, X, Y, Z) on one grid, not {tuple(moving.shape)} "
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
            return self._share(self._replicas[0], images, windows, count).to(images.device)
        total = images.new_zeros((len(images), 3, *images.shape[2:]))
        with ThreadPoolExecutor(len(self._replicas)) as pool:
            try:
                shares = [
                    pool.submit(
                        self._share, replica, images, windows[i :: len(self._replicas)], count
                    )
                    for i, replica in enumerate(self._replicas)
                ]
                # In the order of the devices, so that rounding does not depend on their speed.
                for share in shares:
                    total += share.result().to(total.device)
            finally:
                count.stop()  # else the other threads would go on after an error
        return total

    @torch.no_grad()  # threads do not inherit it
    def _share(
        self, replica: _Replica, images: torch.Tensor, windows: torch.Tensor, count: "_Counter"
    ) -> torch.Tensor:
        """Return the sum of the predictions of some windows, on the replica's device."""
        images = images.to(replica.device)
        total = images.new_zeros((len(images), 3, *images.shape[2:]))
        done = 0
        while done < len(windows) and not count.stopped:
            batch = windows[done : done + replica.batch_size]
            predicted = self._predict(replica, images, batch)
            if predicted is None:
                continue
            for (image, *start), patch in zip(batch.tolist(), predicted, strict=True):
                total[(image, slice(None), *_box(start, self.patch_size))] += patch
            done += len(batch)
            count.add(len(batch))
        return total

    def _predict(
        self, replica: _Replica, images: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the momentum in windows, (N, 3, P, P, P), or None after taking fewer at once."""
        half = torch.autocast(
            replica.device.type,
            dtype=_HALF.get(self.precision),
            enabled=self.precision in _HALF,
        )
        size = len(windows)
        # A network is compiled for one size of batch, and another one would take a minute.
        missing = replica.batch_size - size if self.compiled else 0
        try:
            patches = cut(images, windows, self.patch_size)
            if missing:
                patches = functional.pad(patches, (0,) * 9 + (missing,))
            with half:
                return replica.network(patches[:, :1], patches[:, 1:]).float()[:size]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Out of the handler: the error holds the tensors of the failed pass alive.
        _shrink(replica, size + missing)
        return None


def window_starts(length: int, patch_size: int, stride: int) -> list[int]:
    """Return where windows start along one axis; the last one ends with the axis.

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
    """Return the windows that show something.

    Parameters
    ----------
    images : torch.Tensor
        (B, C, X, Y, Z), zero where there is nothing; each side at least that of a window.
    patch_size, stride : int
        Side of a window, and voxels from one to the next.

    Returns
    -------
    torch.Tensor
        (N, 4), on the CPU: which of the B entries, and the first voxel along each axis, of the
        windows in which any of the C images is not zero.
    """
    axes = [torch.arange(len(images))]
    axes += [torch.tensor(window_starts(n, patch_size, stride)) for n in images.shape[2:]]
    windows = torch.cartesian_prod(*axes)
    shown = (images != 0).any(dim=1, keepdim=True)
    inside = cut(shown, windows, patch_size).flatten(start_dim=1).any(dim=1)
    return windows[inside.cpu()]


def cut(images: torch.Tensor, windows: torch.Tensor, patch_size: int) -> torch.Tensor:
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


def _home(network: nn.Module) -> torch.device:
    """Return the device of a network's weights."""
    return next((weights.device for weights in network.parameters()), torch.device("cpu"))


def _pad(images: torch.Tensor, side: int) -> torch.Tensor:
    """Return images with zeros at the end of each axis that is shorter than a window."""
    missing = [max(side - n, 0) for n in images.shape[2:]]
    x, y, z = missing
    return functional.pad(images, (0, z, 0, y, 0, x)) if any(missing) else images


def _coverage(images: torch.Tensor, windows: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Return the number of windows over each voxel, (B, 1, X, Y, Z)."""
    count = torch.zeros((len(images), 1, *images.shape[2:]))
    for image, *start in windows.tolist():
        count[(image, 0, *_box(start, patch_size))] += 1
    return count.to(images.device)


def _box(start: Sequence[int], side: int) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first in start)


def _shrink(replica: _Replica, size: int) -> None:
    """Halve the batches of a device whose memory did not suffice for one of `size` windows."""
    if size == 1:
        raise InputError(
            f"device {replica.device}: its memory does not suffice for one patch; free some, or "
            "compute on another device"
        )
    replica.batch_size = size // 2
    if replica.device.type == "cuda":
        torch.cuda.empty_cache()
    _logger.warning(
        "device %s: its memory does not suffice for %d patches at once; going on with %d",
        replica.device,
        size,
        replica.batch_size,
    )


class _Counter:
    """Windows done, counted from several threads."""

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
