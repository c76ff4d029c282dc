"""Token pooling, beside the same clustering by loops over tokens."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import vits
from reduction import Step, ledger, reference
from sklearn.cluster import KMeans
from torch import Tensor

from robustvit.transforms.token_reduction.token_pooling import Clustering, k_means, k_medoids, token_pooling

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def grouped(points: Tensor, weights: list[float], count: int, iterations: int, centres: str) -> list[list[int]]:
    """Marin et al., section 3.2: weighted K-means or K-medoids, from the heaviest tokens on."""
    total, members = len(points), []
    middle = [points[at] for at in sorted(range(total), key=lambda at: -weights[at])[:count]]
    for turn in range(iterations):
        if turn:
            middle = [centre(points, weights, of, centres) for of in members]
        apart = [[float((point - one).norm()) for one in middle] for point in points]
        home = [row.index(min(row)) for row in apart]
        empty = [at for at in range(count) if at not in home]
        stay = {min((at for at in range(total) if home[at] == one), key=lambda at, one=one: apart[at][one]) for one in set(home)}
        worst = sorted((at for at in range(total) if at not in stay), key=lambda at: -weights[at] * min(apart[at]) ** 2)
        for one, at in zip(empty, worst, strict=False):
            home[at] = one
        members = [[at for at in range(total) if home[at] == one] for one in range(count)]
    return members


def centre(points: Tensor, weights: list[float], of: list[int], kind: str) -> Tensor:
    if kind == "means":
        return torch.stack([points[at] * weights[at] for at in of]).sum(dim=0) / sum(weights[at] for at in of)
    return points[min(of, key=lambda at: sum(weights[one] * float((points[one] - points[at]).norm()) ** 2 for one in of))]


def pooled(depth: int, keep: float, centres: str, iterations: int):
    def hook(step: Step) -> tuple[Tensor, Tensor]:
        count = math.ceil(16 * (1 - (1 - keep) * (step.index + 1) / (depth - 1))) if step.index < depth - 1 else len(step.tokens)
        patches, sizes = step.tokens[step.prefix :], step.sizes[step.prefix :]
        if count >= len(patches):
            return step.tokens, step.sizes
        weights = step.map.mean(dim=(0, 1))[step.prefix :].tolist()
        groups = grouped(patches, weights, count, iterations, centres)
        tokens = [centre(patches, weights, of, centres) for of in groups]
        together = torch.stack([sizes[of].sum() for of in groups])
        return torch.cat((step.tokens[: step.prefix], torch.stack(tokens))), torch.cat((step.sizes[: step.prefix], together))

    return hook


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("keep", "centres", "iterations"), [(0.5, "medoids", 5), (0.3, "means", 3), (0.3, "medoids", 1)])
def test_it_is_the_same_clustering_by_loops(make, keep, centres, iterations) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    wanted = reference(host, pixels, after=pooled(2, keep, centres, iterations), by_size=True)
    made = token_pooling(host, keep=keep, centres=centres, iterations=iterations)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_the_number_of_tokens_falls_linearly() -> None:
    tokens, macs, everything = ledger("small", Clustering(0.4375, 12, "means", 2))
    assert tokens == [1 + math.ceil(196 * (1 - 0.5625 * block / 11) - 1e-9) for block in range(12)]
    assert tokens[-1] - 1 == 86
    products = sum((before - 1) * (after - 1) * 384 * 2 for before, after in itertools.pairwise(tokens))  # distances, twice
    assert everything == pytest.approx(macs + products / 1e9, rel=1e-5)


def test_clusters_are_those_of_scikit_learn_from_the_same_start() -> None:
    generator = torch.Generator().manual_seed(0)
    points, weights = torch.randn(1, 60, 3, generator=generator, dtype=torch.float64), 0.1 + torch.rand(1, 60, generator=generator)
    start = points[0, weights[0].argsort(descending=True)[:7]].numpy()
    other = KMeans(7, init=start, n_init=1, max_iter=40, tol=0).fit(points[0].numpy(), sample_weight=weights[0].numpy())
    assert k_means(points, weights.double(), 7, 40)[0].tolist() == other.predict(points[0].numpy()).tolist()


@pytest.mark.parametrize("kind", ["means", "medoids"])
def test_equal_points_fill_every_cluster(kind) -> None:
    given = torch.ones(2, 9, 4), torch.ones(2, 9), 5, 3
    group = k_means(*given) if kind == "means" else k_medoids(*given).group
    assert [sorted(set(row)) for row in group.tolist()] == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("kind", ["means", "medoids"])
def test_iterations_approximate_the_tokens_better(kind) -> None:
    generator = torch.Generator().manual_seed(0)
    points, weights = torch.randn(4, 40, 3, generator=generator), torch.rand(4, 40, generator=generator)

    def loss(iterations: int) -> float:
        given = points, weights, 6, iterations
        group = k_means(*given) if kind == "means" else k_medoids(*given).group
        total = 0.0
        for row, one, own in zip(points, group.tolist(), weights, strict=True):
            for cluster in range(6):
                of = [at for at in range(40) if one[at] == cluster]
                total += float((own[of, None] * (row[of] - centre(row, own.tolist(), of, kind)).square()).sum())
        return total

    losses = [loss(iterations) for iterations in (1, 2, 4, 8)]
    assert all(later <= earlier + 1e-4 for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0]
