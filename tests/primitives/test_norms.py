import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from robustvit.primitives import norms
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, project, project_in_box, random_start, size, steepest

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
IDS = [str(i) for i in range(16)]


def deltas(scale: float) -> torch.Tensor:
    return scale * Draws(0, "delta", IDS).normal(3, 4, 4)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_lands_in_the_ball(norm: Norm) -> None:
    assert float(size(project(deltas(5.0), 0.5, norm), norm).max()) <= 0.5 + 1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_projection_leaves_interior_points_alone(norm: Norm) -> None:
    inner = deltas(1e-4)
    assert torch.equal(project(inner, 0.5, norm), inner)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_nearest_point(norm: Norm) -> None:
    far = deltas(1.0)
    nearest = (far - project(far, 0.5, norm)).flatten(1).norm(dim=1)
    for other in range(20):
        rival = project(Draws(other, "rival", IDS).normal(3, 4, 4), 0.5, norm)
        assert bool((nearest <= (far - rival).flatten(1).norm(dim=1) + 1e-5).all())


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_has_unit_norm_and_beats_others(norm: Norm) -> None:
    gradient = deltas(1.0)
    best = steepest(gradient, norm)
    assert torch.allclose(size(best, norm), torch.ones(16, dtype=torch.float64), atol=1e-5)
    rival = steepest(Draws(1, "rival", IDS).normal(3, 4, 4), norm)
    assert bool(((best * gradient).flatten(1).sum(1) >= (rival * gradient).flatten(1).sum(1) - 1e-5).all())


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_gives_no_direction(norm: Norm) -> None:
    assert float(steepest(torch.zeros(2, 3, 4, 4), norm).abs().max()) == 0.0


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_inside_and_keyed_by_id(norm: Norm) -> None:
    images, draws = torch.zeros(16, 3, 4, 4), Draws(0, "start", IDS)
    start = random_start(images, 0.5, norm, draws)
    assert 0.0 < float(size(start, norm).max()) <= 0.5 + 1e-5
    assert torch.equal(start[3:5], random_start(images[3:5], 0.5, norm, draws[torch.tensor([3, 4])]))


def test_l0_counts_pixels_not_channels() -> None:
    delta = torch.zeros(1, 3, 4, 4)
    delta[0, :, 1, 2] = 0.1
    assert size(delta, "l0").tolist() == [1.0]


@pytest.mark.parametrize("eps", [0.2, 1.0, 3.0])
def test_the_projection_onto_an_l1_ball_in_the_box_is_the_nearest_there_is(eps: float) -> None:
    """Against a solver: the squared distance is least among all perturbations of that norm that stay in [0, 1]."""
    rng = np.random.default_rng(1)
    base, wish = rng.uniform(0, 1, (4, 6)), rng.normal(size=(4, 6))
    found = project_in_box(torch.from_numpy(base), torch.from_numpy(wish), eps, "l1").numpy()
    for start, aim, got in zip(base, wish, found, strict=True):
        best = minimize(
            lambda d, aim=aim: ((d[:6] - d[6:] - aim) ** 2).sum(), np.zeros(12), method="SLSQP", tol=1e-12,
            bounds=[*zip(np.zeros(6), 1 - start, strict=True), *zip(np.zeros(6), start, strict=True)],
            constraints={"type": "ineq", "fun": lambda d: eps - d.sum()},
        ).x  # fmt: skip
        assert np.abs(got).sum() <= eps + 1e-9
        assert ((got - aim) ** 2).sum() <= ((best[:6] - best[6:] - aim) ** 2).sum() + 1e-6
        assert (start + got).min() > -1e-12
        assert (start + got).max() < 1 + 1e-12


@pytest.mark.parametrize("scale", [2.0**-120, 2.0**-60, 2.0**60, 2.0**120])
def test_directions_and_distances_depend_on_no_scale_of_the_gradient(scale: float) -> None:
    gradient = Draws(0, "gradient", ["a", "b"]).normal(3, 4, 4)
    for function in (norms.unit, norms.divided_by_mean):
        assert torch.equal(function(scale * gradient), function(gradient))
    gap = torch.tensor([0.5, -2.0])
    for norm in ("linf", "l2", "l1"):
        assert torch.equal(norms.boundary_distance(scale * gap, scale * gradient, norm), norms.boundary_distance(gap, gradient, norm))


def test_a_zero_gradient_has_no_direction_and_an_infinite_distance() -> None:
    nothing = torch.zeros(1, 3, 2, 2)
    assert float(norms.unit(nothing).abs().sum()) == float(norms.divided_by_mean(nothing).abs().sum()) == 0.0
    assert norms.boundary_distance(torch.zeros(1), nothing, "l2").tolist() == [torch.inf]
