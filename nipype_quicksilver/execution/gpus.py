"""GPUs shared by the nodes that run in parallel on a machine, one node on each GPU."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from nipype_quicksilver.execution.leftovers import temporary_folder

#: Environment variable with a folder that has one empty file for each GPU, named as in
#: CUDA_VISIBLE_DEVICES. Set by :func:`shared`.
FOLDER = "QUICKSILVER_GPUS"

_PAUSE = 0.5  # seconds between two attempts to find a free GPU


@contextlib.contextmanager
def shared(devices: list[str]) -> Iterator[None]:
    """Let the nodes that are started within the block share GPUs, one node on each.

    Parameters
    ----------
    devices : list of str
        GPUs, named as in CUDA_VISIBLE_DEVICES.
    """
    previous = os.environ.get(FOLDER)
    with temporary_folder() as folder:
        for device in devices:
            with open(os.path.join(folder, device), "x"):
                pass
        os.environ[FOLDER] = str(folder)
        try:
            yield
        finally:
            del os.environ[FOLDER]
            if previous is not None:
                os.environ[FOLDER] = previous


@contextlib.contextmanager
def reserved() -> Iterator[dict[str, str]]:
    """Reserve a GPU for this process within the block; wait until one is free.

    Yields
    ------
    dict
        CUDA_VISIBLE_DEVICES with this GPU alone; empty where GPUs are not shared, for example
        because a batch system assigned one. Reservations are file locks, which the operating
        system releases when a process ends for any reason.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield {}
        return
    while True:
        for device in sorted(os.listdir(folder)):
            with open(os.path.join(folder, device)) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield {"CUDA_VISIBLE_DEVICES": device}
                return
        time.sleep(_PAUSE)
