"""LO recovers a known deformation without folds, is reproducible, and respects masks."""

import pytest
import torch

from nipype_quicksilver.lddmm import optimize as module
from nipype_quicksilver.lddmm.descent import OVERSHOOT, bounded_step
from nipype_quicksilver.lddmm.fields import sample
from nipype_quicksilver.lddmm.grids import upsample
from nipype_quicksilver.lddmm.jacobians import corner_determinants
from nipype_quicksilver.lddmm.kernel import KernelOperator
from nipype_quicksilver.lddmm.objective import MARGIN, Objective
from nipype_quicksilver.lddmm.optimize import Iteration, optimize
from nipype_quicksilver.lddmm.settings import MEASURES, Kernel, Settings, Stage
from nipype_quicksilver.lddmm.similarity import box_mean, mean_local_correlation

SIZE = 32
STAGES = (Stage(4, 4, 12), Stage(2, 2, 12))


def texture(seed: int, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    image = box_mean(torch.rand((1, 1, size, size, size), generator=generator), 2)
    return (image - image.min()) / (image.max() - image.min())


def bump(shift: float) -> torch.Tensor:
    """Return a displacement along x of ``shift`` at the centre, a Gaussian of 6 voxels."""
    x = torch.arange(SIZE, dtype=torch.float32) - (SIZE - 1) / 2
    squares = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2
    field = torch.zeros((1, 3, SIZE, SIZE, SIZE))
    field[:, 0] = shift * torch.exp(-squares / (2 * 6.0**2))
    return field


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    moving = texture(0)
    return sample(moving, bump(2.0)), moving


def displacement_of(optimum, settings: Settings) -> torch.Tensor:
    from nipype_quicksilver.lddmm.shooting import shoot

    shot = shoot(optimum.momentum, optimum.operator, steps=optimum.steps)
    return upsample(shot.inverse, settings.velocity)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recovers_a_known_displacement(
    pair: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
) -> None:
    fixed, moving = (image.to(dtype) for image in pair)
    iterations: list[Iteration] = []
    settings = Settings(stages=STAGES)
    optimum = optimize(fixed, moving, settings, progress=iterations.append)
    estimate, truth = displacement_of(optimum, settings), bump(2.0)
    middle = (slice(None), slice(None), *(slice(8, 24),) * 3)
    before = float(truth[middle].norm(dim=1).mean())
    error = float((estimate - truth)[middle].norm(dim=1).mean())
    assert error < 0.35 * before
    ones = torch.ones_like(fixed)
    assert mean_local_correlation(fixed, sample(moving, estimate), ones) > mean_local_correlation(
        fixed, moving, ones
    )
    assert iterations == optimum.history
    assert [i.stage for i in iterations] == sorted(i.stage for i in iterations)
    assert optimum.momentum.shape == (1, 3, 16, 16, 16)
    assert optimum.momentum.dtype == dtype


def test_equal_images_need_no_momentum() -> None:
    image = texture(1)
    settings = Settings(stages=STAGES)
    displacement = displacement_of(optimize(image, image, settings), settings)
    assert float(displacement.norm(dim=1).mean()) < 0.05


@pytest.mark.parametrize("similarity", MEASURES)
def test_gradient_of_the_loss_agrees_with_finite_differences(similarity: str) -> None:
    """Through shooting, interpolation, similarity and barrier at once, in double precision."""
    fixed, moving = texture(2, 16).double(), texture(3, 16).double()
    settings = Settings(kernel=Kernel(alpha=4.0, gamma=1.0), similarity=similarity)
    weight = torch.rand(fixed.shape, generator=torch.Generator().manual_seed(4)).double()
    objective = Objective(fixed, moving, weight, None, Stage(1, 2, 1), settings, spacing=1.0)
    generator = torch.Generator().manual_seed(5)
    state, direction = torch.randn((2, *objective.identity().shape), generator=generator).double()
    state = (8.0 * state).requires_grad_()
    terms = objective.evaluate(state)
    assert float(terms.smallest_jacobian) < MARGIN  # the barrier is active
    (gradient,) = torch.autograd.grad(terms.loss, state)
    with torch.no_grad():
        step = 1e-6 * direction
        slope = (
            objective.evaluate(state + step).loss - objective.evaluate(state - step).loss
        ) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_is_reproducible_to_the_bit(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    settings = Settings(stages=STAGES)
    first, second = (optimize(*pair, settings).momentum for _ in range(2))
    assert first.any()
    assert torch.equal(first, second)


def test_never_folds_even_without_regularisation() -> None:
    """Two unrelated textures cannot be matched; the map must stay a diffeomorphism."""
    settings = Settings(
        stages=(Stage(2, 2, 15),), regularization=1e-4, learning_rate=0.3, kernel=Kernel()
    )
    optimum = optimize(texture(2), texture(3), settings)
    displacement = displacement_of(optimum, settings)
    assert torch.isfinite(optimum.momentum).all()
    assert float(corner_determinants(displacement).min()) > 0
    assert float(displacement.abs().max()) > 0.1


@pytest.mark.parametrize("size", [1e2, 1e30])
def test_a_start_that_diverges_gives_no_nan(size: float) -> None:
    start = size * torch.randn((1, 3, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    settings = Settings(stages=(Stage(2, 2, 3),))
    optimum = optimize(texture(2), texture(3), settings, initial=start)
    assert torch.isfinite(optimum.momentum).all()
    assert float(corner_determinants(displacement_of(optimum, settings)).min()) > 0
    assert optimum.history == []  # no iteration was accepted


def test_the_deformation_is_interpolated_in_a_masked_region() -> None:
    """A blob in one of the images changes the map, except where its weight is zero."""
    image = texture(0)
    hole = (slice(None), slice(None), *(slice(12, 20),) * 3)
    settings = Settings(stages=STAGES)
    mask = torch.ones_like(image)
    mask[(slice(None), slice(None), *(slice(9, 23),) * 3)] = (
        0  # the blob and the windows that reach it
    )
    for side in ("fixed", "moving"):
        images = {"fixed": image.clone(), "moving": image.clone()}
        images[side][hole] = texture(9)[hole]
        weights = {"weight": mask} if side == "fixed" else {"moving_weight": mask}
        unmasked = displacement_of(optimize(*images.values(), settings), settings)
        masked = displacement_of(optimize(*images.values(), settings, **weights), settings)
        assert float(unmasked[(*hole[:1], slice(None), *hole[2:])].abs().max()) > 0.5
        assert float(masked.abs().max()) < 0.1


def test_a_step_is_bounded_locally() -> None:
    operator = KernelOperator(Kernel(), (SIZE,) * 3, 2.0)
    velocity = torch.roll(bump(1.0), 8, 2)  # more than 0.5 from the 17th plane
    step = operator.apply(velocity, -0.5)
    bounded = bounded_step(step, operator, limit=0.5)
    changed = operator.apply(bounded, 0.5).abs()
    assert float(changed.max()) <= 1.001 * OVERSHOOT * 0.5
    kept = (slice(None),) * 2 + (slice(4, 12),)
    torch.testing.assert_close(bounded[kept], step[kept])
    assert torch.equal(bounded_step(0.01 * step, operator, limit=0.5), 0.01 * step)


def test_refinement_continues_from_a_momentum(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    fixed, moving = pair
    settings = Settings(stages=STAGES)
    optimum = optimize(fixed, moving, settings)
    refined = optimize(
        fixed,
        moving,
        Settings(stages=(Stage(2, 2, 6),), learning_rate=2e-3),
        initial=optimum.momentum,
    )
    assert refined.history[0].loss < optimum.history[-2].loss * 1.05
    assert refined.history[-1].loss < refined.history[0].loss
    zero = torch.zeros((1, 3, 16, 16, 16))
    assert optimize(fixed, moving, settings, initial=zero).history[0].energy == 0


def test_stops_at_convergence() -> None:
    image = texture(4)
    history = optimize(image, image, Settings(stages=(Stage(4, 4, 200),), tolerance=0.5)).history
    assert len(history) < 200
    assert [iteration.converged for iteration in history] == [False] * (len(history) - 1) + [True]


def test_a_rejected_step_is_not_convergence(pair, monkeypatch) -> None:
    monkeypatch.setattr(module, "_is_acceptable", lambda terms, losses: not losses)
    (record,) = optimize(*pair, Settings(stages=(Stage(4, 4, 9),))).history
    assert record.iteration < record.iterations
    assert not record.converged


def test_scales_with_the_spacing(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """With voxels of 2 mm the images are twice as large, and so is the displacement."""
    fixed, moving = pair
    kernel = Settings().kernel
    large = Kernel(4 * kernel.alpha, 0.0, kernel.gamma, kernel.power)
    settings = Settings(stages=STAGES, kernel=large)
    optimum = optimize(fixed, moving, settings, spacing=2.0)
    displacement = displacement_of(optimum, settings)
    middle = (slice(None), 0, *(slice(12, 20),) * 3)
    assert float(displacement[middle].mean()) == pytest.approx(
        2 * float(bump(2.0)[middle].mean()), rel=0.4
    )


@pytest.mark.parametrize("shape", [(30, 32, 32), (8, 8, 8)])
def test_rejects_grids_that_do_not_fit_the_stages(shape: tuple[int, int, int]) -> None:
    image = torch.rand((1, 1, *shape))
    with pytest.raises(ValueError, match="multiple of 4"):
        optimize(image, image, Settings(stages=STAGES))
    with pytest.raises(ValueError, match="one shape"):
        optimize(image, torch.rand((1, 1, 32, 32, 40)))
