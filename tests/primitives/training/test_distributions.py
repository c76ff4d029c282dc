"""Beta and Dirichlet draws: their distributions, their range, and that a sample's numbers are its own."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from robustvit.primitives.draws import Draws
from robustvit.primitives.training.distributions import beta, dirichlet

MANY = Draws(0, "many", tuple(map(str, range(4000))))


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.2, 0.2), (3.0, 1.0), (1.0, 4.0)])
def test_beta_draws_are_distributed_so(a: float, b: float) -> None:
    assert stats.kstest(beta(MANY, a, b).double().numpy(), stats.beta(a, b).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_dirichlet_draws_sum_to_one_and_each_is_beta(alpha: float) -> None:
    found = dirichlet(MANY, alpha, 3)
    assert torch.allclose(found.sum(dim=1), torch.ones(4000), atol=1e-6)
    assert float(found.min()) >= 0
    for one in found.double().numpy().T:  # the margin of a Dirichlet; the smallest numbers of alpha = 0.1 are below what float32 holds
        assert stats.kstest(one, stats.beta(alpha, 2 * alpha).cdf).pvalue > 0.01


def test_a_samples_draws_do_not_depend_on_the_others() -> None:
    rows = torch.tensor([7, 3])
    assert torch.equal(beta(MANY, 0.4, 0.4)[rows], beta(MANY[rows], 0.4, 0.4))
    assert torch.equal(dirichlet(MANY, 1.0, 3)[rows], dirichlet(MANY[rows], 1.0, 3))
