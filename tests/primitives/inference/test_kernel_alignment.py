"""The unbiased estimator of HSIC: its sums over tuples of samples, and what it does not see."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.kernel_alignment import gram, unbiased_hsic


def normal(name: str, *shape: int) -> Tensor:
    return Draws(0, name, ["x"]).normal(*shape)[0].double()


def by_tuples(first: Tensor, second: Tensor) -> float:
    """The U-statistic of HSIC: averages of products over tuples of different samples."""
    n = len(first)
    pairs = [float(first[i, j] * second[i, j]) for i, j in itertools.permutations(range(n), 2)]
    threes = [float(first[i, j] * second[i, k]) for i, j, k in itertools.permutations(range(n), 3)]
    fours = [float(first[i, j] * second[k, m]) for i, j, k, m in itertools.permutations(range(n), 4)]
    return sum(pairs) / len(pairs) + sum(fours) / len(fours) - 2 * sum(threes) / len(threes)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_it_is_the_u_statistic_over_tuples_of_different_samples(n: int) -> None:
    one, other = normal("one", n, 3), normal("other", n, 6)
    matrices = one @ one.T, other @ other.T
    assert float(unbiased_hsic(*matrices)) == pytest.approx(by_tuples(*matrices), abs=1e-12)


def test_it_does_not_see_the_mean_of_features_or_a_rotation() -> None:
    one, other = normal("one", 3, 8, 5), normal("other", 3, 8, 4)
    expected = unbiased_hsic(one @ one.transpose(1, 2), other @ other.transpose(1, 2))
    turn = torch.linalg.qr(normal("turn", 5, 5)).Q
    assert torch.allclose(unbiased_hsic(gram(one @ turn + 7.0), gram(other - 3.0)), expected, atol=1e-10)
    assert torch.allclose(unbiased_hsic(gram(2.0 * one), gram(other)), 4 * expected, atol=1e-10)


def test_groups_and_blocks_are_apart_from_each_other() -> None:
    matrices, others = gram(normal("one", 6, 8, 5)).unflatten(0, (2, 3)), gram(normal("other", 4, 8, 5)).unflatten(0, (2, 2))
    found = unbiased_hsic(matrices[:, :, None], others[:, None])
    assert found.shape == (2, 3, 2)
    for g, i, j in itertools.product(range(2), range(3), range(2)):
        assert float(found[g, i, j]) == pytest.approx(float(unbiased_hsic(matrices[g, i], others[g, j])), abs=1e-12)


def test_features_are_centred_in_double_precision() -> None:
    features = normal("one", 1, 8, 5)
    assert torch.allclose(gram((features + 1000.0).float()), gram(features), atol=1e-2)
    assert gram(features.float()).dtype == torch.float64


def test_of_independent_features_it_is_zero_on_average() -> None:
    found = unbiased_hsic(gram(normal("one", 4000, 8, 5)), gram(normal("other", 4000, 8, 5)))
    assert abs(float(found.mean())) < 3 * float(found.std()) / 4000**0.5
    biased = (gram(normal("one", 4000, 8, 5)) * gram(normal("other", 4000, 8, 5))).sum(dim=(1, 2)).mean() / 7**2
    assert float(biased) > 10 * float(found.std()) / 4000**0.5
