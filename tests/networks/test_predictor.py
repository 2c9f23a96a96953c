"""Loading, prediction and sampling of networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nipype_quicksilver.data import shipped_networks
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.jacobians import corner_determinants, gradient
from nipype_quicksilver.lddmm.maps import on_working_grid
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import mean_local_correlation
from nipype_quicksilver.networks.checkpoint import save_checkpoint
from nipype_quicksilver.networks.loading import load_predictor
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.precision import convolution_precision
from nipype_quicksilver.networks.prediction import Images, run_networks
from nipype_quicksilver.networks.sampling import (
    ERROR_RATIO,
    FLAT,
    RunningMoments,
    is_probabilistic,
    residual_variance,
)
from tests.helpers.tiny_networks import STEPS, card_of, save_unet

SIZE = 32


def ball(shift):
    """A textured ball with soft borders, shifted as a whole along x."""
    x, y, z = torch.meshgrid(*[torch.arange(SIZE) - 15.5] * 3, indexing="ij")
    x = x - shift
    waves = 1 + 0.3 * torch.sin(x / 2.5) * torch.sin(y / 3) * torch.cos(z / 4)
    return (waves * torch.sigmoid(10 - torch.stack([x, y, z]).norm(dim=0)))[None, None]


@pytest.fixture
def images():
    fixed, moving = ball(0.0), ball(1.5)
    return Images(fixed, moving, ((fixed > 0.01) | (moving > 0.01)).float())


@pytest.fixture
def prediction(tmp_path):
    return save_unet(tmp_path / "prediction.safetensors", first_step=0.1)


@pytest.fixture
def correction(tmp_path):
    options = {"velocity": 2, "first_step": 0.05}
    return save_unet(tmp_path / "c.safetensors", changes={"role": "correction"}, **options)


@pytest.fixture
def probabilistic(tmp_path):
    return save_unet(tmp_path / "probabilistic.safetensors", dropout=0.3, noise=0.1)


class WithPasses:
    """A network with several passes."""

    def __init__(self, passes, image=1):
        self.passes, self.image = passes, image

    def unroll(self, finest=1):
        return [self] * self.passes


class CoarseAndFine(WithPasses):
    """A network whose last pass is on finer images than the others."""

    def unroll(self, finest=1):
        return [self] * (self.passes - 1) + [WithPasses(1, image=1)]


def predict(predictor, images, corrections):
    """Return state and operator."""
    prediction = predictor.predict(images, corrections)
    return prediction.state, prediction.operator


def warped_difference(images, state, operator):
    """Mean squared difference after warping."""
    fixed, moving, *_ = images.at(1)
    inverse = shoot(operator.apply(state, -0.5), operator, steps=STEPS).inverse
    fine = upsample(inverse, SIZE // operator.shape[0])
    return float((sample(moving, fine, (1.0, 1.0, 1.0)) - fixed).square().mean())


def test_corrections_bring_the_images_closer(prediction, correction, images):
    predictor = load_predictor(prediction, correction)
    differences = [warped_difference(images, *predict(predictor, images, n)) for n in range(4)]
    zero = torch.zeros(1, 3, 8, 8, 8)
    before = warped_difference(images, zero, images.operator(Kernel(), 4))
    assert differences[3] < differences[2] < differences[1] < differences[0] < 0.5 * before


def test_the_networks_in_their_order(prediction, correction):
    predictor = load_predictor(prediction, correction)
    assert [network.velocity for network in predictor.networks(2)] == [4, 2, 2]
    assert (predictor.velocity_factor(0), predictor.velocity_factor(1)) == (4, 2)
    assert predictor.files == (str(prediction), str(correction))
    repeated = replace(predictor, prediction=WithPasses(6), correction=WithPasses(2))
    for corrections, numbers in ((0, (6, 0)), (1, (4, 2)), (3, (4, 4))):
        line = repeated.networks(corrections)
        assert (line.count(repeated.prediction), line.count(repeated.correction)) == numbers
    single = load_predictor(prediction)
    assert single.networks(2) == [single.prediction] * 3
    alone = load_predictor(prediction, correction, with_correction=False)
    assert alone.correction is None
    assert alone.files == (str(prediction),)


def test_the_start_of_an_optimisation_is_corrected_on_fine_images_only(prediction, correction):
    predictor = load_predictor(prediction, correction)
    finer = replace(predictor, prediction=WithPasses(6), correction=CoarseAndFine(3, image=2))
    for corrections, images in ((1, [1]), (2, [1, 1])):
        whole, start = (finer.networks(corrections, final=final) for final in (True, False))
        assert start[:4] == whole[:4] == [finer.prediction] * 4
        assert [network.image for network in whole[4:]] == [2, 2, *images]
        assert [network.image for network in start[4:]] == images


def test_a_correction_adds_to_the_prediction(prediction, correction, images):
    """The correction adds to the predicted momentum, on its own finer grid."""
    predictor = load_predictor(prediction, correction)
    state, operator = predict(predictor, images, 0)
    corrected, finer = predict(predictor, images, 1)
    assert operator.shape == (8, 8, 8)
    assert finer.shape == (16, 16, 16)
    velocity = operator.apply(state, 0.5), finer.apply(corrected, 0.5)
    coarse = torch.nn.functional.avg_pool3d(velocity[1], 2)
    similarity = torch.nn.functional.cosine_similarity(
        coarse.flatten(), velocity[0].flatten(), dim=0
    )
    assert similarity > 0.8


@pytest.mark.parametrize("supported", [True, False])
def test_convolutions_in_bfloat16_change_the_map_little(prediction, images, monkeypatch, supported):
    """On processors with instructions for bfloat16; others emulate it here."""
    exact = load_predictor(prediction)
    reference, operator = run_networks(exact.networks(0), images, Kernel(), STEPS)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": supported})
    state, _ = predict(exact, images, 0)
    first, second = (shoot(operator.apply(s, -0.5), operator).inverse for s in (reference, state))
    difference = float((first - second).norm(dim=1).max().detach())
    assert difference < 0.02 * float(first.detach().norm(dim=1).max())
    assert (difference > 0) == supported
    with convolution_precision(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") == supported


def test_predictions_have_no_folds(tmp_path, images, anything_goes):
    """Steps that are much too long cause folds, which are removed."""
    options = {"first_step": 60.0, "noise": 0.3}
    predictor = load_predictor(save_unet(tmp_path / "long.safetensors", **options))
    raw = run_networks(predictor.networks(2), images, Kernel(), STEPS)[0]
    state, operator = predict(predictor, images, 2)
    raw, inverse = (
        shoot(operator.apply(each, -0.5), operator, steps=STEPS).inverse for each in (raw, state)
    )
    assert not (corner_determinants(raw, operator.spacing) > 0).all()  # nor where it diverged
    fine = upsample(inverse, 4)
    assert state.abs().max() > 0.1
    assert corner_determinants(inverse, operator.spacing).min() > 0
    assert corner_determinants(fine, (1.0, 1.0, 1.0)).min() > 0


def test_the_start_of_an_optimisation_may_have_folds(tmp_path, images, anything_goes):
    predictor = load_predictor(save_unet(tmp_path / "long.safetensors", first_step=6.0, noise=0.3))
    raw, operator = run_networks(predictor.networks(0), images, Kernel(), STEPS)
    final, start = (predictor.predict(images, 0, final=final).state for final in (True, False))
    inverse = shoot(operator.apply(raw, -0.5), operator, steps=STEPS).inverse
    assert corner_determinants(inverse, operator.spacing).min() < 0
    # It differs less from the output of the networks.
    assert 0 < (start - raw).norm() < (final - raw).norm()


def test_predictions_never_make_the_images_less_similar(tmp_path, images, prediction):
    assert load_predictor(prediction).predict(images, 0).fraction == 1
    # Two images of one person that differ by noise; steps that are too long or backwards.
    noise = 0.05 * torch.randn((1, 1, SIZE, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    same = Images(ball(0.0), ball(0.0) + noise, (ball(0.0) > 0.01).float())
    for pair, first_step in ((same, 3.0), (images, 3.0), (images, -0.1)):
        path = save_unet(tmp_path / "wrong.safetensors", first_step=first_step)
        result = load_predictor(path).predict(pair, 0)
        fixed, moving, weight, _ = pair.at(4)
        before = mean_local_correlation(fixed, moving, weight)
        warped = sample(moving, result.geodesic.inverse, result.operator.spacing)
        assert result.fraction < 1
        assert mean_local_correlation(fixed, warped, weight) >= before - 1e-6
    assert result.fraction == 0 and not result.state.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": {**Kernel().as_dict(), "alpha": 1.0}},
        {"steps": 4},
        {"spacing": 2.0},
        {"percentile": 90.0},
        {"equalize": True},
        {"match_contrast": True},
    ],
)
def test_networks_of_two_models_are_rejected(changes, tmp_path, prediction):
    other = save_unet(tmp_path / "other.safetensors", changes=changes)
    with pytest.raises(InputError, match=r"other.safetensors: was trained for another .* belong"):
        load_predictor(prediction, other)


def test_a_correction_on_a_coarser_grid_is_rejected(prediction, correction):
    with pytest.raises(InputError, match=r"coarser than that of .*swap them"):
        load_predictor(correction, prediction)


def test_cards_with_another_grid_are_rejected(tmp_path):
    path = save_unet(tmp_path / "a.safetensors", changes={"velocity_factor": 2})
    with pytest.raises(
        InputError, match=r"a.safetensors: .*coarser by 4, but according to its card by 2"
    ):
        load_predictor(path)
    path = save_unet(tmp_path / "b.safetensors", image=1, velocity=3, scales=[3])
    with pytest.raises(InputError, match="only divisors of 8 fit"):
        load_predictor(path)


def test_missing_shipped_networks_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("nipype_quicksilver.data.files", lambda _: tmp_path)
    with pytest.raises(
        InputError, match="not part of this installation; give a prediction network"
    ):
        load_predictor()


def test_the_shipped_networks_are_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr("nipype_quicksilver.data.files", lambda _: tmp_path)
    (tmp_path / "networks").mkdir()
    for name, dropout in (("prediction", 0.0), ("correction", 0.0), ("probabilistic", 0.2)):
        save_unet(tmp_path / "networks" / f"{name}.safetensors", dropout=dropout)

    def names(**options):
        return [file.rpartition("/")[2].split(".")[0] for file in load_predictor(**options).files]

    assert names() == ["prediction", "correction"]
    assert names(with_correction=False) == ["prediction"]
    assert names(probabilistic=True) == ["probabilistic", "correction"]


def test_the_package_ships_networks_for_every_method():
    for probabilistic in (False, True):
        predictor = load_predictor(probabilistic=probabilistic)  # checks their SHA-256
        assert predictor.correction is not None
        assert is_probabilistic(predictor.card) == probabilistic
    folder = shipped_networks()[0].parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


def test_a_network_without_dropout_is_not_sampled(prediction):
    with pytest.raises(InputError, match=r"prediction.safetensors: has no dropout.*dropout"):
        load_predictor(prediction, probabilistic=True)


def test_dropout_is_active_for_samples_only(probabilistic, images, anything_goes):
    predictor = load_predictor(probabilistic)
    first, second = (predict(predictor, images, 1)[0] for _ in range(2))
    assert torch.equal(first, second)
    sampling = load_predictor(probabilistic, probabilistic=True)
    first, second = (predict(sampling, images, 1)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_samples_agree_with_their_definition(probabilistic, images, anything_goes):
    """Compared to mean and variance of all samples at once."""
    predictor = load_predictor(probabilistic, probabilistic=True)
    torch.manual_seed(7)
    samples = predictor.sample(images, 1, 4)
    torch.manual_seed(7)
    states, maps = [], []
    for _ in range(4):
        state, operator = predict(predictor, images, 1)
        states.append(state)
        inverse = shoot(operator.apply(state, -0.5), operator, steps=STEPS).inverse
        maps.append(on_working_grid(inverse, operator, 4))
    variance = torch.stack(maps).var(dim=0)
    assert variance.max() > 1e-4
    torch.testing.assert_close(samples.state, torch.stack(states).mean(dim=0))
    mean = on_working_grid(samples.geodesic.inverse, operator, 4)
    variance = variance + residual_variance(images, mean) / 3
    torch.testing.assert_close(samples.variance, variance, rtol=1e-3, atol=1e-6)


def test_the_error_is_estimated_from_the_remaining_difference():
    fixed, still = ball(0.0), torch.zeros((1, 3, SIZE, SIZE, SIZE))
    weight = (fixed > 0.2).float()

    def error(moving, displacement=still):
        variance = residual_variance(Images(fixed, moving, weight), displacement)
        return float(variance[weight > 0].sqrt().mean())

    assert error(fixed) < 0.05  # mm; not 0 because of flat windows
    near, far = error(ball(0.5)), error(ball(1.0))
    assert 1.8 < far / near < 2.2
    # The images show one direction of three, and the fit of intensities explains a part of it.
    slope = float(gradient(fixed)[:, 0].square().sum(dim=1, keepdim=True)[weight > 0].mean())
    undamped = near * np.sqrt(1 + FLAT**2 / slope)
    assert 0.2 < undamped / (0.5 * ERROR_RATIO) < 1 / np.sqrt(3)
    # Other intensities are not an error, and there is none after a map that aligns the images.
    assert error(3 - 2 * ball(0.5)) == pytest.approx(near, rel=0.02)
    shift = still.clone()
    shift[:, 0] = 1
    assert error(ball(1.0), shift) < 0.1 * far
    unweighted = Images(fixed, ball(1.0), 0 * weight)
    assert not residual_variance(unweighted, still).any()


def test_running_moments_do_not_lose_digits():
    """Where the mean is large against the spread, sums of squares would."""
    generator = torch.Generator().manual_seed(0)
    values = 1e4 + torch.randn((40, 5), generator=generator)
    moments = RunningMoments()
    for row in values:
        moments.add(row)
    torch.testing.assert_close(moments.mean, values.double().mean(0).float())
    expected = values.double().var(dim=0).float()
    torch.testing.assert_close(moments.variance(), expected, rtol=1e-2, atol=0)
    single = RunningMoments()
    single.add(values[0])
    with pytest.raises(ValueError, match="two samples"):
        single.variance()


@pytest.fixture
def patches(tmp_path):
    """A checkpoint of the network of the paper, with dropout."""
    torch.manual_seed(0)
    parameters = {"features": 1, "dropout": 0.2}
    network = PatchNetwork(**parameters)
    with torch.no_grad():  # untrained, it would move the images far outside the grid
        for weights in network.parameters():
            weights *= 0.5
    path = tmp_path / "patches.safetensors"
    save_checkpoint(path, network, card_of(parameters, architecture="patch", velocity_factor=2))
    return path


def test_the_network_of_the_paper_predicts_and_corrects(patches, images, anything_goes):
    predictor = load_predictor(patches)
    state, operator = predict(predictor, images, 1)
    assert operator.shape == (16, 16, 16)
    assert state.any()
    assert torch.equal(state, predict(predictor, images, 1)[0])
    torch.manual_seed(1)
    samples = load_predictor(patches, probabilistic=True).sample(images, 0, 2)
    assert samples.variance.shape == (1, 3, SIZE, SIZE, SIZE)
    assert samples.variance.max() > 0


def test_the_network_of_the_paper_convolves_in_bfloat16_where_that_is_fast(
    patches, images, monkeypatch, anything_goes
):
    """As the other architecture does: with eight bits per number, .4%, and averaged errors."""
    states = []
    for supported in (False, True):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda supported=supported: {"avx512_bf16": supported}
        )
        networks = load_predictor(patches).networks(0)
        states.append(run_networks(networks, images, Kernel(), STEPS)[0])
    difference = float((states[1] - states[0]).norm() / states[0].norm())
    assert 0 < difference < 0.004
