"""The processes of a training; `tests/cli/test_train.py` trains with two of them."""

import pytest
import torch
from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.training.distributed import joined, process_count


def test_a_single_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    network = nn.Linear(1, 1)
    with joined(torch.device("cpu")) as processes:
        assert (processes.rank, processes.ranks, processes.first) == (0, 1, True)
        assert processes.distribute(network) is network
        assert processes.gather("item") == ["item"]


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1000")
    monkeypatch.setenv("LOCAL_RANK", "999")
    assert process_count() == 1000
    with (
        pytest.raises(InputError, match="torchrun: process 999 has no GPU"),
        joined(torch.device("cuda")),
    ):
        pass
