"""One GPU for each node that wants one, where several run on a machine at once."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator

#: Folder with one empty file per GPU, named as CUDA_VISIBLE_DEVICES names it. A workflow's engine
#: that runs several GPU nodes at once on one machine sets it, see :func:`shared`.
FOLDER = "QUICKSILVER_GPUS"

_PAUSE = 0.5  # seconds between two looks for a free GPU


@contextlib.contextmanager
def shared(devices: list[str]) -> Iterator[None]:
    """Let the nodes that are started within the block share GPUs, one node on each.

    Parameters
    ----------
    devices : list of str
        GPUs as CUDA_VISIBLE_DEVICES names them.
    """
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="quicksilver-gpus-") as folder:
        for device in devices:
            with open(os.path.join(folder, device), "x"):
                pass
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]
            if before is not None:
                os.environ[FOLDER] = before


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
