"""Networks that are loaded, put together and sampled."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nipype_quicksilver.data import shipped_networks
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.lddmm.fields import sample, upsample
from nipype_quicksilver.lddmm.jacobians import corner_determinants, gradient
from nipype_quicksilver.lddmm.maps import on_working_grid
from nipype_quicksilver.lddmm.settings import Kernel
from nipype_quicksilver.lddmm.shooting import shoot
from nipype_quicksilver.lddmm.similarity import mean_local_correlation
from nipype_quicksilver.networks.checkpoint import save_checkpoint
from nipype_quicksilver.networks.patch_network import PatchNetwork
from nipype_quicksilver.networks.prediction import Images, run_networks
from nipype_quicksilver.networks.predictor import convolutions, load_predictor
from nipype_quicksilver.networks.sampling import (
    FLAT,
    TYPICAL_ERROR,
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


class Repeated:
    """A network that is made to be applied several times in a row."""

    def __init__(self, passes, image=1):
        self.passes, self.image = passes, image

    def in_passes(self, finest=1):
        return [self] * self.passes


class CoarseAndFine(Repeated):
    """A network whose last pass looks at finer images than those before."""

    def in_passes(self, finest=1):
        return [self] * (self.passes - 1) + [Repeated(1, image=1)]


def predict(predictor, images, corrections):
    """Return state and operator."""
    found = predictor.predict(images, corrections)
    return found.state, found.operator


def warped_difference(images, state, operator):
    """Mean squared difference after warping."""
    fixed, moving, *_ = images.at(1)
    inverse = shoot(operator.apply(state, -0.5), operator, steps=STEPS).inverse
    fine = upsample(inverse, SIZE // operator.shape[0])
    return float((sample(moving, fine, (1.0, 1.0, 1.0)) - fixed).square().mean())


def test_corrections_bring_the_images_closer(prediction, correction, images):
    predictor = load_predictor(prediction, correction)
    left = [warped_difference(images, *predict(predictor, images, n)) for n in range(4)]
    nothing = torch.zeros(1, 3, 8, 8, 8)
    before = warped_difference(images, nothing, images.operator(Kernel(), 4))
    assert left[3] < left[2] < left[1] < left[0] < 0.5 * before


def test_the_networks_in_their_order(prediction, correction):
    predictor = load_predictor(prediction, correction)
    assert [network.velocity for network in predictor.networks(2)] == [4, 2, 2]
    assert (predictor.velocity(0), predictor.velocity(1)) == (4, 2)
    assert predictor.files == (str(prediction), str(correction))
    many = replace(predictor, prediction=Repeated(6), correction=Repeated(2))
    for corrections, numbers in ((0, (6, 0)), (1, (4, 2)), (3, (4, 4))):
        line = many.networks(corrections)
        assert (line.count(many.prediction), line.count(many.correction)) == numbers
    itself = load_predictor(prediction)
    assert itself.networks(2) == [itself.prediction] * 3
    alone = load_predictor(prediction, correction, correcting=False)
    assert alone.correction is None
    assert alone.files == (str(prediction),)


def test_what_an_optimiser_goes_on_from_is_corrected_on_fine_images_only(prediction, correction):
    predictor = load_predictor(prediction, correction)
    sharp = replace(predictor, prediction=Repeated(6), correction=CoarseAndFine(3, image=2))
    for corrections, images in ((1, [1]), (2, [1, 1])):
        whole, start = (sharp.networks(corrections, finely=finely) for finely in (True, False))
        assert start[:4] == whole[:4] == [sharp.prediction] * 4
        assert [network.image for network in whole[4:]] == [2, 2, *images]
        assert [network.image for network in start[4:]] == images


def test_a_state_is_as_the_networks_leave_it(prediction, correction, images):
    """The correction adds to what the prediction said, on its own finer grid."""
    predictor = load_predictor(prediction, correction)
    state, operator = predict(predictor, images, 0)
    corrected, finer = predict(predictor, images, 1)
    assert operator.shape == (8, 8, 8)
    assert finer.shape == (16, 16, 16)
    velocity = operator.apply(state, 0.5), finer.apply(corrected, 0.5)
    coarse = torch.nn.functional.avg_pool3d(velocity[1], 2)
    alike = torch.nn.functional.cosine_similarity(coarse.flatten(), velocity[0].flatten(), dim=0)
    assert alike > 0.8


@pytest.mark.parametrize("able", [True, False])
def test_half_the_digits_of_convolutions_change_little(prediction, images, monkeypatch, able):
    """On processors that multiply in bfloat16; others emulate it here."""
    exact = load_predictor(prediction)
    reference, operator = run_networks(exact.networks(0), images, Kernel(), STEPS)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    state, _ = predict(exact, images, 0)
    first, second = (shoot(operator.apply(s, -0.5), operator).inverse for s in (reference, state))
    apart = float((first - second).norm(dim=1).max().detach())
    assert apart < 0.02 * float(first.detach().norm(dim=1).max())
    assert (apart > 0) == able
    with convolutions(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") == able


def test_no_network_leaves_a_fold(tmp_path, images, anything_goes):
    """Steps that are much too long fold, and are mended."""
    wild = {"first_step": 60.0, "noise": 0.3}
    predictor = load_predictor(save_unet(tmp_path / "wild.safetensors", **wild))
    raw = run_networks(predictor.networks(2), images, Kernel(), STEPS)[0]
    state, operator = predict(predictor, images, 2)
    raw, inverse = (
        shoot(operator.apply(each, -0.5), operator, steps=STEPS).inverse for each in (raw, state)
    )
    assert not (corner_determinants(raw, operator.spacing) > 0).all()  # nor where it blew up
    fine = upsample(inverse, 4)
    assert state.abs().max() > 0.1
    assert corner_determinants(inverse, operator.spacing).min() > 0
    assert corner_determinants(fine, (1.0, 1.0, 1.0)).min() > 0


def test_a_start_keeps_folds_that_the_optimiser_mends(tmp_path, images, anything_goes):
    predictor = load_predictor(save_unet(tmp_path / "wild.safetensors", first_step=6.0, noise=0.3))
    raw, operator = run_networks(predictor.networks(0), images, Kernel(), STEPS)
    written, start = (predictor.predict(images, 0, finely=finely).state for finely in (True, False))
    inverse = shoot(operator.apply(raw, -0.5), operator, steps=STEPS).inverse
    assert corner_determinants(inverse, operator.spacing).min() < 0
    # Of what the networks said, it is changed less.
    assert 0 < (start - raw).norm() < (written - raw).norm()


def test_predictions_never_make_the_images_less_alike(tmp_path, images, prediction):
    assert load_predictor(prediction).predict(images, 0).share == 1
    # Two images of one person that differ by noise; steps that are too long; steps the wrong way.
    noise = 0.05 * torch.randn((1, 1, SIZE, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    same = Images(ball(0.0), ball(0.0) + noise, (ball(0.0) > 0.01).float())
    for pair, first_step in ((same, 3.0), (images, 3.0), (images, -0.1)):
        path = save_unet(tmp_path / "wrong.safetensors", first_step=first_step)
        found = load_predictor(path).predict(pair, 0)
        fixed, moving, weight, _ = pair.at(4)
        before = mean_local_correlation(fixed, moving, weight)
        warped = sample(moving, found.geodesic.inverse, found.operator.spacing)
        assert found.share < 1
        assert mean_local_correlation(fixed, warped, weight) >= before - 1e-6
    assert found.share == 0 and not found.state.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": {**Kernel().as_dict(), "alpha": 1.0}},
        {"steps": 4},
        {"spacing": 2.0},
        {"percentile": 90.0},
        {"equalize": True},
        {"like_contrast": True},
    ],
)
def test_networks_of_two_models_are_refused(changes, tmp_path, prediction):
    other = save_unet(tmp_path / "other.safetensors", changes=changes)
    with pytest.raises(InputError, match=r"other.safetensors: was trained for another .* belong"):
        load_predictor(prediction, other)


def test_a_correction_on_a_coarser_grid_is_refused(prediction, correction):
    with pytest.raises(InputError, match=r"coarser than that of .*swap them"):
        load_predictor(correction, prediction)


def test_cards_that_tell_another_grid_are_refused(tmp_path):
    path = save_unet(tmp_path / "a.safetensors", changes={"velocity_factor": 2})
    with pytest.raises(InputError, match=r"a.safetensors: .*coarser by 4, by its card 2"):
        load_predictor(path)
    path = save_unet(tmp_path / "b.safetensors", image=1, velocity=3, scales=[3])
    with pytest.raises(InputError, match="only divisors of 8 fit"):
        load_predictor(path)


def test_without_shipped_networks_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("nipype_quicksilver.networks.predictor.files", lambda _: tmp_path)
    with pytest.raises(InputError, match="comes without it; give a prediction network"):
        load_predictor()


def test_the_shipped_networks_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("nipype_quicksilver.networks.predictor.files", lambda _: tmp_path)
    (tmp_path / "networks").mkdir()
    for name, dropout in (("prediction", 0.0), ("correction", 0.0), ("probabilistic", 0.2)):
        save_unet(tmp_path / "networks" / f"{name}.safetensors", dropout=dropout)

    def names(**options):
        return [file.rpartition("/")[2].split(".")[0] for file in load_predictor(**options).files]

    assert names() == ["prediction", "correction"]
    assert names(correcting=False) == ["prediction"]
    assert names(probabilistic=True) == ["probabilistic", "correction"]


def test_the_package_comes_with_networks_for_every_method():
    for probabilistic in (False, True):
        predictor = load_predictor(probabilistic=probabilistic)  # checks their SHA-256
        assert predictor.correction is not None
        assert is_probabilistic(predictor.card) == probabilistic
    folder = shipped_networks()[0].parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


def test_a_network_without_dropout_is_not_sampled(prediction):
    with pytest.raises(InputError, match=r"prediction.safetensors: has no dropout.*dropout"):
        load_predictor(prediction, probabilistic=True)


def test_dropout_is_off_unless_samples_are_wanted(probabilistic, images, anything_goes):
    predictor = load_predictor(probabilistic)
    first, second = (predict(predictor, images, 1)[0] for _ in range(2))
    assert torch.equal(first, second)
    sampling = load_predictor(probabilistic, probabilistic=True)
    first, second = (predict(sampling, images, 1)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_samples_are_what_their_definition_says(probabilistic, images, anything_goes):
    """Against all samples at once, kept."""
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


def test_what_is_left_between_the_images_tells_how_far_they_are_off():
    fixed, still = ball(0.0), torch.zeros((1, 3, SIZE, SIZE, SIZE))
    weight = (fixed > 0.2).float()

    def told(moving, displacement=still):
        variance = residual_variance(Images(fixed, moving, weight), displacement)
        return float(variance[weight > 0].sqrt().mean())

    assert told(fixed) < 0.05  # mm; flat windows count as a little unlike themselves
    near, far = told(ball(0.5)), told(ball(1.0))
    assert 1.8 < far / near < 2.2
    # One direction of three shows in the images, and the fit of intensities explains a part of it.
    slope = float(gradient(fixed)[:, 0].square().sum(dim=1, keepdim=True)[weight > 0].mean())
    undamped = near * np.sqrt(1 + FLAT**2 / slope)
    assert 0.2 < undamped / (0.5 * TYPICAL_ERROR) < 1 / np.sqrt(3)
    # Other intensities are no error, and a map that brings the images together leaves none.
    assert told(3 - 2 * ball(0.5)) == pytest.approx(near, rel=0.02)
    there = still.clone()
    there[:, 0] = 1
    assert told(ball(1.0), there) < 0.1 * far
    nothing = Images(fixed, ball(1.0), 0 * weight)
    assert not residual_variance(nothing, still).any()


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
    """A checkpoint of the paper's network, with dropout."""
    torch.manual_seed(0)
    parameters = {"features": 1, "dropout": 0.2}
    network = PatchNetwork(**parameters)
    with torch.no_grad():  # untrained, it would send the images far beyond the grid
        for weights in network.parameters():
            weights *= 0.5
    path = tmp_path / "patches.safetensors"
    save_checkpoint(path, network, card_of(parameters, architecture="patch", velocity_factor=2))
    return path


def test_the_papers_network_predicts_and_corrects(patches, images, anything_goes):
    predictor = load_predictor(patches)
    state, operator = predict(predictor, images, 1)
    assert operator.shape == (16, 16, 16)
    assert state.any()
    assert torch.equal(state, predict(predictor, images, 1)[0])
    torch.manual_seed(1)
    samples = load_predictor(patches, probabilistic=True).sample(images, 0, 2)
    assert samples.variance.shape == (1, 3, SIZE, SIZE, SIZE)
    assert samples.variance.max() > 0


def test_the_papers_network_convolves_in_bfloat16_where_that_is_fast(
    patches, images, monkeypatch, anything_goes
):
    """As the other family does; eight bits of each number are left, .4%, and errors average."""
    states = []
    for able in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        networks = load_predictor(patches).networks(0)
        states.append(run_networks(networks, images, Kernel(), STEPS)[0])
    apart = float((states[1] - states[0]).norm() / states[0].norm())
    assert 0 < apart < 0.004
