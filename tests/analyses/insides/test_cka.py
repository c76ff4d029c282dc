"""Centred kernel alignment of blocks: invariances, independence, other models, and groups of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from vits import images, made, registers, swin, vit

from robustvit.analyses.insides.cka import cka, cka_passes
from robustvit.errors import BadParameter, HostRefused, NotApplicable
from robustvit.metrics.insides.similarity import cka as alignment
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.unit_tokens import unit_tokens
from robustvit.primitives.passes import Passes
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.estimates import Weighted, resolve_metric
from robustvit.statistics.resamples import Resamples

GROUP = 16
COUNT = 2 * GROUP
LABELS = torch.arange(COUNT) % 5


def drawn(count: int = COUNT) -> Draws:
    return Draws(0, "x", [str(row) for row in range(count)])


def records(columns: dict[str, Tensor], group: int = GROUP) -> pd.DataFrame:
    """Columns of groups as rows of samples."""
    n = group * len(next(iter(columns.values())))
    rows = np.arange(n) // group
    return pd.DataFrame({
        "sample": [f"{row:03}" for row in range(n)], "group": rows,
        **{name: list(values.numpy()[rows]) for name, values in columns.items()},
    })  # fmt: skip


def value(columns: dict[str, Tensor], **given: Any) -> float:
    twice = {name: torch.cat((values, values)) for name, values in columns.items()}  # as many groups as an interval takes
    result = alignment(records(twice), **given).values
    assert isinstance(result, Weighted)
    return float(result.of(np.ones((1, len(next(iter(twice.values()))))))[0])


def features(model: Classifier, pixels: Tensor) -> list[np.ndarray]:
    """(n, T·D) float64 after every block."""
    tiles = [[one.flatten(1) for one in tile.mlp] for tile in unit_tokens(model, pixels)]
    return [torch.cat(block).double().numpy() for block in zip(*tiles, strict=True)]


def hsic(one: np.ndarray, other: np.ndarray) -> float:
    """HSIC₁ by the trace formula of Song et al. 2012, in numpy."""
    n = len(one)
    k, m = one @ one.T, other @ other.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    ones = np.ones(n)
    parts = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)
    return float(parts / (n * (n - 3)))


@pytest.mark.parametrize("make", [vit, registers])
def test_columns_are_hsic_within_each_group(make: Any) -> None:
    model, pixels = made(make), images(COUNT)
    found = cka(model, pixels, LABELS, drawn(), group=GROUP, corruption=lambda some, draws: some**2)
    clean, shifted = features(model, pixels), features(model, pixels**2)
    blocks = len(clean)
    for group in range(2):
        rows = slice(group * GROUP, (group + 1) * GROUP)
        for i in range(blocks):
            assert float(found["value_hsic_xx"][group, i]) == pytest.approx(hsic(clean[i][rows], clean[i][rows]), rel=1e-5)
            assert float(found["value_hsic_yy"][group, i]) == pytest.approx(hsic(shifted[i][rows], shifted[i][rows]), rel=1e-5)
            for j in range(blocks):
                expected = hsic(clean[i][rows], shifted[j][rows])
                assert float(found["value_hsic_xy"][group, i * blocks + j]) == pytest.approx(expected, rel=1e-4)


def test_the_same_images_are_alike_in_every_block() -> None:
    found = cka(made(vit), images(COUNT), LABELS, drawn(), group=GROUP, corruption=lambda some, draws: some)
    assert value(found) == pytest.approx(1.0, abs=1e-6)
    assert value(found, block=0) == pytest.approx(1.0, abs=1e-6)
    assert value(found, block=0, to=1) < 1.0 - 1e-4


def test_features_of_noise_are_not_alike() -> None:
    count = 40 * GROUP
    noise = Draws(0, "noise", [str(row) for row in range(count)])
    given = noise.at("clean").uniform(3, 32, 32), torch.zeros(count, dtype=torch.int64), noise
    columns = cka(made(vit), *given, group=GROUP, corruption=lambda some, draws: draws.at("shifted").uniform(3, 32, 32))
    metric = resolve_metric("cka")
    rows = records(columns)
    estimate = score(metric, rows, Resamples(list(rows["sample"])))
    assert estimate.low < 0.0 < estimate.high
    assert abs(estimate.value) < 0.1
    assert estimate.n == 40


def test_pooled_features_are_the_mean_of_the_patches() -> None:
    model, pixels = made(registers), images(COUNT)
    found = cka(model, pixels, LABELS, drawn(), group=GROUP, pooled=True, corruption=lambda some, draws: some**2)
    tiles = [[one[:, 4:].mean(dim=1) for one in tile.mlp] for tile in unit_tokens(model, pixels)]
    first = torch.cat([tile[0] for tile in tiles]).double().numpy()
    assert float(found["value_hsic_xx"][1, 0]) == pytest.approx(hsic(first[GROUP:], first[GROUP:]), rel=1e-5)


def test_another_model_may_have_other_blocks() -> None:
    model, other, pixels = made(vit), made(lambda: vit(depth=2)), images(COUNT)
    found = cka(model, pixels, LABELS, drawn(), other=other, group=GROUP)
    one, two = features(model, pixels), features(other, pixels)
    assert found["value_hsic_xy"].shape == (2, len(one) * len(two))
    expected = [hsic(one[2][rows], two[1][rows]) for rows in (slice(0, GROUP), slice(GROUP, COUNT))]
    assert found["value_hsic_xy"][:, 2 * len(two) + 1].tolist() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(NotApplicable, match="no place of their own in a model of 2, where this one has 3"):
        value(found)
    xx, yy = (np.mean([hsic(some[rows], some[rows]) for rows in (slice(0, GROUP), slice(GROUP, COUNT))]) for some in (one[2], two[1]))
    assert value(found, block=2, to=1) == pytest.approx(np.mean(expected) / np.sqrt(xx * yy), rel=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"block": 3}, "has 3 blocks, and the other 3"),
        ({"block": 0, "to": 3}, "has 3 blocks, and the other 3"),
        ({"to": 1}, "give block, too"),
    ],
)
def test_blocks_that_are_not_there_are_told(given: dict[str, Any], message: str) -> None:
    found = cka(made(vit), images(COUNT), LABELS, drawn(), group=GROUP, corruption=lambda some, draws: some)
    with pytest.raises(NotApplicable, match=message):
        value(found, **given)


def test_one_whole_group_says_nothing_about_others() -> None:
    found = cka(made(vit), images(COUNT), LABELS, drawn(), group=GROUP, corruption=lambda some, draws: some)
    rows = records(found)
    with pytest.raises(NotApplicable, match="it takes 4 whole groups of samples, and the cell has 1"):
        alignment(rows[rows["group"] == 0])
    few = records({name: torch.cat((values, values)) for name, values in found.items()})
    with pytest.raises(NotApplicable, match="it takes 4 whole groups of samples, and the cell has 3"):
        alignment(few[few["group"] < 3])
    assert len(alignment(few).ids) == 4
    incomplete = {name: torch.cat((values[:1], torch.full_like(values[1:], torch.nan))) for name, values in found.items()}
    with pytest.raises(NotApplicable, match="the cell has 1"):
        alignment(records(incomplete))


def test_it_takes_one_thing_to_compare_with() -> None:
    for given in ({}, {"corruption": lambda some, draws: some, "other": made(vit)}):
        with pytest.raises(BadParameter, match="give corruption, attack or other, one of the three"):
            cka(made(vit), images(COUNT), LABELS, drawn(), group=GROUP, **given)
    with pytest.raises(HostRefused, match="'toy'"):
        cka(made(swin), images(COUNT), LABELS, drawn(), group=GROUP, corruption=lambda some, draws: some)
    spec: Any = None
    assert cka_passes(spec, made(vit), {"other": made(vit)}) == Passes(forward=2.0)
    assert cka_passes(spec, made(vit), {"corruption": object(), "other": None}) == Passes(forward=2.0)
    assert cka_passes(spec, made(vit), {"attack": object()}) is None
