"""One GPU for each node that wants one, where several run on a machine at once."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

#: Folder with one empty file per GPU, named as CUDA_VISIBLE_DEVICES names it. A workflow's engine
#: that runs several GPU nodes at once on one machine sets it, see :func:`share`.
FOLDER = "QUICKSILVER_GPUS"

_PAUSE = 0.5  # seconds between two looks for a free GPU


def share(folder: str | os.PathLike[str], devices: list[str]) -> None:
    """Let the nodes that this process and its children start share GPUs, one node on each.

    Parameters
    ----------
    folder : path-like
        Made if needed, on this machine.
    devices : list of str
        GPUs as CUDA_VISIBLE_DEVICES names them.
    """
    os.makedirs(folder, exist_ok=True)
    for file in set(os.listdir(folder)) - set(devices):
        os.unlink(os.path.join(folder, file))
    for device in devices:
        with open(os.path.join(folder, device), "a"):
            pass
    os.environ[FOLDER] = os.path.abspath(folder)


@contextlib.contextmanager
def reserved() -> Iterator[dict[str, str]]:
    """Keep a GPU for this process within the block, waiting for one if need be.

    Yields
    ------
    dict
        The environment variable that shows this GPU alone; empty where GPUs are not shared out,
        as when a batch system has assigned one. Files are locked: the system unlocks them when a
        process ends, in whatever way.
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
