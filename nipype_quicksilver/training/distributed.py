"""Training by several processes that torchrun starts: one for each GPU, or on CPUs."""

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
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Attributes
    ----------
    rank : int
        Index of this process; the first one writes the files.
    ranks : int
        Number of processes.
    device : torch.device
        Device of this process.
    """

    rank: int
    ranks: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def distribute(self, network: _Network) -> _Network:
        """Return a wrapper of the network that averages gradients over all processes."""
        if self.ranks == 1:
            return network
        return cast(_Network, _Distributed(network))

    def gather(self, item: _Item) -> list[_Item]:
        """Return the items of all processes, in their order, to each of them."""
        if self.ranks == 1:
            return [item]
        items: list[Any] = [None] * self.ranks
        distributed.all_gather_object(items, item)
        return items


class _Distributed(DistributedDataParallel):
    """DistributedDataParallel that also has the attributes of its network."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def process_count() -> int:
    """Return the number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun this is the only one.

    Parameters
    ----------
    device : torch.device
        Device of a single process; each of several uses the GPU with its local rank.

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
