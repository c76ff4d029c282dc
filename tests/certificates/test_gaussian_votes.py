"""Which noise the Gaussian certificate votes on, and what it makes of given votes, against the algorithm CERTIFY of Cohen et al. 2019."""

from __future__ import annotations

from math import comb
from statistics import NormalDist

import pytest
import torch
from exact import classifier, images
from torch import Tensor, nn

from robustvit.certificates.gaussian import gaussian
from robustvit.primitives.draws import Draws
from robustvit.primitives.votes import Votes

SIDE, SIGMA = 4, 0.3


class Scripted(nn.Module):
    """Votes for given classes, one image after the other, and keeps what it saw."""

    def __init__(self, votes: list[int]) -> None:
        super().__init__()
        self.votes, self.seen = votes, list[Tensor]()

    def forward(self, pixels: Tensor) -> Tensor:
        votes = self.votes[len(self.seen) : len(self.seen) + len(pixels)]
        self.seen += list(pixels.clone())
        return nn.functional.one_hot(torch.tensor(votes), 4).float()


def certified(selected: list[int], estimated: list[int], alpha: float = 0.001) -> tuple[Votes, list[Tensor]]:
    model = classifier(Scripted(selected + estimated), SIDE, tile=1)
    counts = {"samples": len(estimated), "selection": len(selected)}
    votes = gaussian(model, images(1, SIDE), Draws(0, "g", ["a"]), sigma=SIGMA, alpha=alpha, **counts)
    return votes, model.model.seen  # type: ignore[union-attr, return-value]


def lower_bound(hits: int, votes: int, alpha: float) -> float:
    """Clopper and Pearson's: the p at which so many hits or more have probability alpha, by bisection of the binomial sum."""
    low, high = 0.0, 1.0
    for _ in range(100):
        p = (low + high) / 2
        tail = sum(comb(votes, k) * p**k * (1 - p) ** (votes - k) for k in range(hits, votes + 1))
        low, high = (p, high) if tail < alpha else (low, p)
    return low


def split(hits: int, votes: int, selected: int) -> list[int]:
    """So many votes for the selected class, the others spread over two classes."""
    others = [one for one in range(4) if one != selected][:2]
    return [selected] * hits + [others[i % 2] for i in range(votes - hits)]


def test_no_noise_is_used_twice_and_each_is_the_samples_own() -> None:
    _, seen = certified([0] * 9, [0] * 30)
    keyed, clean = Draws(0, "g", ["a"]), images(1, SIDE)[0]
    expected = [
        keyed.at(part).at(turn).normal(3, SIDE, SIDE)[0] for part, many in (("selection", 9), ("samples", 30)) for turn in range(many)
    ]
    for one, noise in zip(seen, expected, strict=True):
        assert torch.allclose(one, clean + SIGMA * noise, atol=1e-6)
    apart = torch.cdist(torch.stack(seen).flatten(1), torch.stack(seen).flatten(1)) + torch.eye(39)
    assert float(apart.min()) > 0.1


def test_several_images_at_once_get_the_noise_of_each_alone() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = list[Tensor]()

        def forward(self, pixels: Tensor) -> Tensor:
            self.seen += list(pixels.clone())
            return pixels.flatten(1)[:, :2]

    model, pixels, names = classifier(Kept(), SIDE, tile=6), images(3, SIDE), ["a", "b", "c"]
    gaussian(model, pixels, Draws(0, "g", names), sigma=SIGMA, samples=5, selection=3)
    seen = torch.stack([one for one in model.model.seen if bool(one.any())])  # without the rows that fill a tile
    turns = [("selection", turn) for turn in range(3)] + [("samples", turn) for turn in range(5)]
    noise = [Draws(0, "g", names).at(part).at(turn).normal(3, SIDE, SIDE) for part, turn in turns]
    assert torch.allclose(seen, torch.cat([pixels + SIGMA * one for one in noise]), atol=1e-6)


def test_the_class_is_selected_by_the_first_votes_alone() -> None:
    found, _ = certified([2] * 5 + [1] * 4, [1] * 99 + [2])
    assert found.counts.tolist() == [[0, 99, 1, 0]]
    assert found.columns["pred"].tolist() == [-1]  # its share is bounded below one half, however sure the model is of another
    assert found.columns["radius"].tolist() == [0.0]


def test_without_a_vote_for_the_selected_class_it_abstains() -> None:
    found, _ = certified([3] * 5, [0] * 40)
    assert (found.columns["pred"].tolist(), found.columns["radius"].tolist()) == ([-1], [0.0])


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("votes", [20, 100])
def test_the_radius_is_sigma_times_the_quantile_of_the_exact_bound(votes: int, alpha: float) -> None:
    bounds = [lower_bound(hits, votes, alpha) for hits in range(votes + 1)]
    first = next(hits for hits, low in enumerate(bounds) if low > 0.5)
    for hits in (0, votes // 2, first - 1, first, (first + votes) // 2, votes):
        found, _ = certified([1] * 3, split(hits, votes, 1), alpha)
        sure = bounds[hits] > 0.5
        assert found.columns["pred"].tolist() == [1 if sure else -1]
        radius = SIGMA * NormalDist().inv_cdf(bounds[hits]) if sure else 0.0
        assert float(found.columns["radius"][0]) == pytest.approx(radius, abs=1e-9)
        assert found.columns["level"].tolist() == [1 - alpha]
    assert bounds[votes] == pytest.approx(alpha ** (1 / votes))
