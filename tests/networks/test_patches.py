"""Sliding windows over whole images."""

import logging
import threading

import pytest
import torch
from torch import nn

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks import patches
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.patches import PatchPredictor, select_windows, window_starts


class Pointwise(nn.Module):
    """A network without context: its prediction must not depend on the windows."""

    def forward(self, moving, target):
        return torch.cat((moving + target, moving - target, moving * target), dim=1)


class Numbered(nn.Module):
    """Predicts 1 in the first patch, 2 in the second, and so on."""

    def __init__(self):
        super().__init__()
        self.count = [0]  # shared by copies, unlike a number

    def __deepcopy__(self, memo):
        return self

    def forward(self, moving, target):
        first, size = self.count[0] + 1, len(moving)
        self.count[0] += size
        numbers = torch.arange(first, first + size, dtype=torch.float32)
        return numbers.reshape(-1, 1, 1, 1, 1).expand(-1, 3, *moving.shape[2:])


class MemoryLimited(nn.Module):
    """Runs out of memory for more than `limit` patches at once."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error = limit, error

    def forward(self, moving, target):
        if len(moving) > self.limit:
            raise self.error
        return Pointwise()(moving, target)


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    moving, target = torch.rand((2, 1, 1, *shape), generator=generator) + 0.1
    return moving, target


@pytest.mark.parametrize("length", [15, 16, 28, 29, 30, 43, 44, 193])
def test_windows_cover_an_axis(length):
    starts = window_starts(length, 15, 14)
    covered = {start + i for start in starts for i in range(15)}
    assert covered == set(range(length))
    assert starts == sorted(set(starts))
    assert len(starts) == -(-(length - 15) // 14) + 1  # no more than needed


@pytest.mark.parametrize("shape", [(29, 29, 29), (15, 20, 33), (7, 40, 15), (3, 4, 5)])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_pointwise_network_does_not_depend_on_windows(shape, batch_size):
    moving, target = pair(*shape)
    predictor = PatchPredictor(Pointwise(), batch_size=batch_size)
    assert predictor.patch_size == 15
    expected = Pointwise()(moving, target)
    assert torch.allclose(predictor(moving, target), expected, atol=1e-6)


def test_overlaps_are_averaged():
    moving, target = pair(15, 15, 29)
    momentum = PatchPredictor(Numbered())(moving, target)
    profile = momentum[0, :, 7, 7]
    expected = torch.tensor([1.0] * 14 + [1.5] + [2.0] * 14)
    assert torch.equal(profile, expected.expand(3, -1))


def test_overlaps_are_averaged_over_the_windows_that_were_predicted():
    moving, target = torch.zeros(2, 1, 1, 15, 15, 43)
    moving[..., 0] = 1
    target[..., 28] = 1  # in the windows that start at 14 and at 28
    profile = PatchPredictor(Numbered())(moving, target)[0, 0, 7, 7]
    assert profile.tolist() == [1.0] * 14 + [1.5] + [2.0] * 13 + [2.5] + [3.0] * 14
    target[..., 28] = 0
    network = Numbered()
    profile = PatchPredictor(network)(moving, target)[0, 0, 7, 7]
    assert profile.tolist() == [1.0] * 15 + [0.0] * 28
    assert network.count == [1]


def test_agrees_with_a_plain_loop_over_windows():
    torch.manual_seed(0)
    network = PatchNetwork(features=2)
    moving, target = pair(31, 29, 44)
    moving[..., :20] = 0
    target[:, :, 16:] = 0
    target[..., :17] = 0
    total, count = torch.zeros(3, 31, 29, 44), torch.zeros(31, 29, 44)
    for x in (0, 14, 16):
        for y in (0, 14):
            for z in (0, 14, 28, 29):
                box = slice(x, x + 15), slice(y, y + 15), slice(z, z + 15)
                patch = moving[(..., *box)], target[(..., *box)]
                if patch[0].any() or patch[1].any():
                    total[(slice(None), *box)] += network(*patch)[0].detach()
                    count[box] += 1
    expected = total / count.clamp(min=1)
    assert not expected[..., :14].any()
    result = PatchPredictor(network, batch_size=4)(moving, target)
    assert torch.allclose(result[0], expected, atol=1e-6)


def test_windows_of_background_are_skipped():
    images = torch.zeros(2, 2, 29, 29, 29)
    images[0, 0, 0, 0, 0] = 1
    images[1, 1, 14, 28, 28] = -1
    assert select_windows(images, 15, 14).tolist() == [
        [0, 0, 0, 0],
        [1, 0, 14, 14],
        [1, 14, 14, 14],
    ]


def test_background_only():
    calls = []
    network = Numbered()
    zeros = torch.zeros(1, 1, 20, 20, 20)
    momentum = PatchPredictor(network)(zeros, zeros, lambda *call: calls.append(call))
    assert momentum.shape == (1, 3, 20, 20, 20)
    assert not momentum.any()
    assert network.count == [0]
    assert calls == []


def test_several_images_at_once():
    first, second = pair(20, 18, 31), pair(20, 18, 31, seed=1)
    second[0][..., 10:] = 0
    second[1][..., 10:] = 0
    network = PatchNetwork(features=2)
    predictor = PatchPredictor(network, batch_size=3)
    both = predictor(*(torch.cat(images) for images in zip(first, second, strict=True)))
    assert torch.allclose(both[:1], predictor(*first), atol=1e-6)
    assert torch.allclose(both[1:], predictor(*second), atol=1e-6)


def test_one_window_is_the_network_itself():
    moving, target = pair(15, 15, 15)
    network = PatchNetwork(features=2)
    assert torch.allclose(PatchPredictor(network)(moving, target), network(moving, target))


def test_the_default_side_of_a_window_is_that_of_the_network():
    network = PatchNetwork(features=1, patch_size=7)
    predictor = PatchPredictor(network)
    assert (predictor.patch_size, predictor.stride) == (7, 6)
    predictor = PatchPredictor(network, patch_size=11, stride=4)
    assert (predictor.patch_size, predictor.stride) == (11, 4)
    assert predictor(*pair(12, 13, 14)).shape == (1, 3, 12, 13, 14)


def test_the_network_is_not_modified():
    network = PatchNetwork(features=2).train()
    network.decoders[0].requires_grad_(False)
    before = {name: (w.stride(), w.requires_grad) for name, w in network.named_parameters()}
    momentum = PatchPredictor(network, channels_last=True)(*pair(15, 15, 15))
    assert network.training
    assert {n: (w.stride(), w.requires_grad) for n, w in network.named_parameters()} == before
    assert not momentum.requires_grad
    momentum.requires_grad_(True).square().sum().backward()  # it can be refined


def test_integers_and_doubles():
    moving, target = pair(15, 16, 17)
    expected = PatchPredictor(Pointwise())(moving, target)
    result = PatchPredictor(Pointwise())(moving.double(), target)
    assert result.dtype == torch.float32
    assert torch.allclose(result, expected)
    whole = (10 * moving).round().to(torch.int16)
    result = PatchPredictor(Pointwise())(whole, whole)
    assert torch.equal(result[:, :1], 2.0 * whole)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("channels_last", [None, True])
def test_half_precision(precision, channels_last):
    torch.manual_seed(0)
    network = PatchNetwork(features=4)
    moving, target = pair(15, 15, 29)
    expected = PatchPredictor(network)(moving, target)
    predictor = PatchPredictor(network, precision=precision, channels_last=channels_last)
    result = predictor(moving, target)
    assert result.dtype == torch.float32
    error = (result - expected).abs().mean() / expected.abs().mean()
    assert 0 < error < 0.02


def test_channels_last_changes_rounding_only():
    network = PatchNetwork(features=4)
    moving, target = pair(15, 15, 29)
    expected = PatchPredictor(network)(moving, target)
    result = PatchPredictor(network, channels_last=True)(moving, target)
    assert torch.allclose(result, expected, atol=1e-6)


def test_a_compiled_network_has_batches_of_one_size(monkeypatch):
    sizes = []

    def compiled(network, **options):
        assert options == {"dynamic": False}

        def forward(moving, target):
            sizes.append(len(moving))
            return network(moving, target)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    moving, target = pair(29, 29, 29)
    result = PatchPredictor(Pointwise(), batch_size=3, compiled=True)(moving, target)
    assert torch.allclose(result, Pointwise()(moving, target))
    assert sizes == [3, 3, 3]


def test_progress():
    calls = []
    predictor = PatchPredictor(Pointwise(), batch_size=3)
    predictor(*pair(29, 29, 29), lambda *call: calls.append(call))
    assert calls == [(3, 8), (6, 8), (8, 8)]


class TestSeveralDevices:
    """The CPU, listed several times, represents several GPUs with a copy and a thread each."""

    def test_divide_the_windows(self):
        torch.manual_seed(0)
        network = PatchNetwork(features=2)
        moving, target = pair(30, 29, 29)
        expected = PatchPredictor(network)(moving, target)
        for number in (2, 3, 20):
            calls = []
            predictor = PatchPredictor(network, devices=["cpu"] * number, batch_size=2)
            result = predictor(moving, target, lambda *call, calls=calls: calls.append(call))
            assert torch.allclose(result, expected, atol=1e-6)
            assert not result.requires_grad
            assert calls[-1] == (12, 12)
            assert [done for done, _ in calls] == sorted({done for done, _ in calls})

    def test_work_at_the_same_time(self):
        barrier = threading.Barrier(2, timeout=30)

        class Waiting(Pointwise):
            def __deepcopy__(self, memo):
                return self

            def forward(self, moving, target):
                barrier.wait()  # passes only when both are here
                return super().forward(moving, target)

        moving, target = pair(15, 15, 29)
        result = PatchPredictor(Waiting(), devices=["cpu", "cpu"])(moving, target)
        assert torch.allclose(result, Pointwise()(moving, target))

    def test_an_error_stops_all(self):
        class Failing(Pointwise):
            def forward(self, moving, target):
                raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            PatchPredictor(Failing(), devices=["cpu", "cpu"])(*pair(15, 15, 29))

    def test_every_replica_has_weights_of_its_own(self):
        network = PatchNetwork(features=1)
        predictor = PatchPredictor(network, devices=["cpu", "cpu"])
        copies = [network, *(replica.network for replica in predictor._replicas)]
        assert len({next(copy.parameters()).data_ptr() for copy in copies}) == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_smaller_batches_where_memory_runs_out(error, devices, caplog):
    moving, target = pair(29, 29, 29)
    predictor = PatchPredictor(MemoryLimited(1, error), batch_size=16, devices=devices)
    with caplog.at_level(logging.WARNING, logger=patches.__name__):
        result = predictor(moving, target)
    assert torch.allclose(result, Pointwise()(moving, target))
    first = 8 // len(devices)
    assert f"for {first} patches at once; continuing with {first // 2}" in caplog.text
    assert "device cpu: its memory does not suffice for 2 patches at once; continuing with 1" in (
        caplog.text
    )
    caplog.clear()
    predictor(moving, target)  # the batches stay small
    assert caplog.text == ""


def test_not_enough_memory_for_one_patch():
    predictor = PatchPredictor(MemoryLimited(0, MemoryError()))
    with pytest.raises(InputError, match="device cpu: its memory does not suffice for one patch"):
        predictor(*pair(29, 29, 29))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    predictor = PatchPredictor(MemoryLimited(0, RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        predictor(*pair(29, 29, 29))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 16}, "windows must touch"),
        ({"stride": 0}, "windows must touch"),
        ({"batch_size": 0}, "at least one window"),
        ({"precision": "float8"}, "float32, bfloat16, float16"),
        ({"devices": []}, "at least one device"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        PatchPredictor(Pointwise(), **options)


def test_images_that_do_not_fit():
    moving, target = pair(15, 15, 15)
    with pytest.raises(ValueError, match=r"\(B, 1, X, Y, Z\) on one grid"):
        PatchPredictor(Pointwise())(moving, target[..., :14])
    with pytest.raises(ValueError, match=r"\(B, 1, X, Y, Z\) on one grid"):
        PatchPredictor(Pointwise())(moving[0], target[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gpus(precision):
    torch.manual_seed(0)
    network = PatchNetwork(features=8)
    moving, target = pair(40, 45, 50)
    expected = PatchPredictor(network)(moving, target)
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    result = PatchPredictor(network, devices=devices, precision=precision)(moving, target)
    assert result.device.type == "cpu"
    tolerance = 1e-3 if precision == "float32" else 0.02
    assert (result - expected).abs().mean() < tolerance * expected.abs().mean()
