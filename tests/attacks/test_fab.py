"""The steps of FAB to a plane inside the box, against linear and quadratic programmes."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from robustvit.attacks.fab import to_plane

RNG = np.random.default_rng(0)
POINTS = torch.from_numpy(RNG.uniform(0, 1, (6, 7)))
NORMALS = torch.from_numpy(RNG.normal(size=(6, 7)))
OFFSETS = torch.from_numpy(-(NORMALS * torch.from_numpy(RNG.uniform(0.2, 0.8, (6, 7)))).sum(dim=1).numpy())


def shortest(point: np.ndarray, normal: np.ndarray, offset: float, norm: str) -> float:
    """The norm of the shortest step to the plane that stays in the box, by a solver."""
    n, short = len(point), -(normal @ point + offset)
    if norm == "l2":
        found = minimize(
            lambda d: d @ d, np.zeros(n), jac=lambda d: 2 * d, bounds=list(zip(-point, 1 - point, strict=True)), method="SLSQP", tol=1e-14,
            constraints={"type": "eq", "fun": lambda d: normal @ d - short, "jac": lambda d: normal},
        )  # fmt: skip
        return float(np.linalg.norm(found.x))
    extra = n if norm == "l1" else 1
    cost = np.r_[np.zeros(n), np.ones(extra)]
    bound = np.eye(n) if norm == "l1" else np.ones((n, 1))
    upper = np.block([[np.eye(n), -bound], [-np.eye(n), -bound]])
    found = linprog(
        cost, A_ub=upper, b_ub=np.zeros(2 * n), A_eq=np.r_[normal, np.zeros(extra)][None], b_eq=[short],
        bounds=[*zip(-point, 1 - point, strict=True), *[(0, None)] * extra],
    )  # fmt: skip
    return float(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_step_is_the_shortest_there_is(norm: str) -> None:
    steps = to_plane(POINTS, NORMALS, OFFSETS, norm)  # type: ignore[arg-type]
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    for point, normal, offset, step in zip(POINTS.numpy(), NORMALS.numpy(), OFFSETS.numpy(), steps.numpy(), strict=True):
        assert normal @ (point + step) + offset == pytest.approx(0, abs=1e-8)
        assert (point + step).min() > -1e-12
        assert (point + step).max() < 1 + 1e-12
        assert np.linalg.norm(step, order) == pytest.approx(shortest(point, normal, offset, norm), abs=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_step_to_a_plane_outside_the_box_ends_at_a_corner(norm: str) -> None:
    step = to_plane(POINTS[:1], NORMALS[:1], torch.tensor([1e3], dtype=torch.float64), norm)  # type: ignore[arg-type]
    corner = torch.where(NORMALS[:1] < 0, 1.0, 0.0)
    assert torch.allclose(POINTS[:1] + step, corner.double(), atol=1e-9)
