"""The paper's training: patches of momenta from patches of images."""

import copy
import dataclasses

import pytest
import torch

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.training.on_momenta import MomentumExample, MomentumTrainer, PatchRecipe

RECIPE = PatchRecipe(iterations=30, batch_size=6, learning_rate=1e-2, stride=5, seed=2)


def make_network(dropout=0.0):
    torch.manual_seed(1)
    return PatchNetwork(features=2, patch_size=7, dropout=dropout)


def make_example(seed=0):
    """Images, and a momentum that is nearly constant, so that it is learnt quickly."""
    generator = torch.Generator().manual_seed(seed)
    moving, target = torch.rand((2, 1, 1, 12, 12, 12), generator=generator)
    moving[..., :1] = target[..., :1] = 0
    difference = target - moving
    momentum = torch.cat([0.5 + 0.1 * difference, -0.3 - 0.1 * difference, difference], dim=1)
    return MomentumExample(moving, target, momentum)


def test_learns():
    examples = [make_example(0), make_example(1)]
    trainer = MomentumTrainer(make_network(), examples, RECIPE)
    before = trainer.error(trainer.network)
    for _ in range(RECIPE.iterations):
        trainer.step()
    assert trainer.error(trainer.network) < 0.9 * before
    assert trainer.iteration == 30


def test_windows_and_errors_of_no_deformation():
    example = make_example()
    trainer = MomentumTrainer(make_network(), [example], RECIPE)
    assert len(trainer.windows) == 8  # windows start at 0 and 5 along each axis
    whole = [
        example.momentum[(..., *[slice(s, s + 7) for s in window[1:]])].abs().mean()
        for _, window in trainer.windows
    ]
    assert trainer.zero_error() == pytest.approx(float(torch.stack(whole).mean()))
    empty = dataclasses.replace(example, moving=0 * example.moving, target=0 * example.target)
    assert not MomentumTrainer(make_network(), [empty], RECIPE).windows


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_equals_uninterrupted(dropout):
    examples = [make_example()]
    whole = MomentumTrainer(make_network(dropout), examples, RECIPE)
    first = MomentumTrainer(make_network(dropout), examples, RECIPE)
    for _ in range(4):
        whole.step()
    for _ in range(2):
        first.step()
    second = MomentumTrainer(make_network(dropout), examples, RECIPE)
    second.resume(copy.deepcopy(first.state()))
    for _ in range(2):
        second.step()
    for name, weights in whole.network.state_dict().items():
        assert torch.equal(weights, second.network.state_dict()[name])
        assert torch.equal(whole.average[name], second.average[name])


def test_average_is_that_of_the_last_weights_by_default():
    trainer = MomentumTrainer(make_network(), [make_example()], RECIPE)
    trainer.step()
    state = trainer.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in trainer.average.items())
    slow = dataclasses.replace(RECIPE, averaging=0.99)
    trainer = MomentumTrainer(make_network(), [make_example()], slow)
    trainer.step()
    state = trainer.network.state_dict()
    assert not all(torch.equal(state[name], value) for name, value in trainer.average.items())


def test_batches_shrink_where_memory_does_not_suffice(caplog):
    examples = [make_example()]
    plain = MomentumTrainer(make_network(), examples, RECIPE)
    plain.step()
    trainer = MomentumTrainer(make_network(), examples, RECIPE)
    network = trainer.network

    def greedy(moving, target):
        if len(moving) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(moving, target)

    trainer.runner = greedy
    trainer.step()
    assert trainer.at_once == 1 and "continuing with 1 patches" in caplog.text
    # The gradient is that of the whole batch.
    for name, weights in plain.network.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], weights, rtol=0, atol=1e-5)

    def hopeless(moving, target):
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.runner = hopeless
    with pytest.raises(InputError, match="does not suffice for one patch"):
        trainer.step()


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    trainer = MomentumTrainer(make_network(), [make_example()], RECIPE)

    def broken(moving, target):
        raise RuntimeError("shapes do not fit")

    trainer.runner = broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trainer.step()
