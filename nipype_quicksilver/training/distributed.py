"""Training by several processes, started by torchrun: one for each GPU, or for some CPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nipype_quicksilver.errors import InputError

_Network = TypeVar("_Network", bound=nn.Module)
_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Attributes
    ----------
    rank : int
        Number of this one; the first writes the files.
    ranks : int
        How many there are.
    device : torch.device
        Where this one computes.
    """

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def distribute(self, network: _Network) -> _Network:
        """Return what predicts as the network does, and averages gradients over all processes."""
        if self.ranks == 1:
            return network
        return cast(_Network, _Distributed(network))

    def gather(self, thing: _Thing) -> list[_Thing]:
        """Return what every process has, in their order, to all of them."""
        if self.ranks == 1:
            return [thing]
        everything: list[Any] = [None] * self.ranks
        distributed.all_gather_object(everything, thing)
        return everything


class _Distributed(DistributedDataParallel):
    """DistributedDataParallel with the attributes of its network."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def process_count() -> int:
    """Return how many processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is only this one.

    Parameters
    ----------
    device : torch.device
        Of a single process; of several, each takes the GPU of its number.

    Yields
    ------
    Processes

    Raises
    ------
    InputError
        If there are more processes on this machine than GPUs.
    """
    ranks = process_count()
    if ranks == 1:
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"torchrun: process {local} has no GPU, torch sees {torch.cuda.device_count()}; "
                "start as many processes as there are GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), ranks, device)
    finally:
        distributed.destroy_process_group()
