"""Radii of smoothed models, against a model whose smoothed prediction is known in closed form."""

import math

import numpy as np
import pytest
import torch
from exact import Linear, classifier, images
from scipy.stats import binomtest, norm
from torch import Tensor

from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import scenario
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse


def half_space() -> tuple[Classifier, Tensor]:
    """A linear model, whose smoothed version has the same boundary: the true radius is the distance to it."""
    weight = Draws(0, "weight", ["w"]).normal(48)[0]
    return classifier(Linear(weight, -0.5 * float(weight.sum())), 4, tile=16), weight


def certified(model: Classifier, pixels: Tensor, ids: list[str] | None = None, **params) -> dict[str, Tensor]:
    spec = bind(lookup("certificate", "gaussian"), parse({"gaussian": params})[0])
    names = tuple(ids or [str(i) for i in range(len(pixels))])
    batch = Batch(pixels, torch.zeros(len(pixels), dtype=torch.int64), names)
    return scenario(lookup("certificate", "gaussian"), spec)(model, batch, Draws(0, "g", names)).columns


def test_no_radius_passes_the_distance_to_the_boundary_and_most_come_near_it() -> None:
    model, weight = half_space()
    pixels = images(24)
    columns = certified(model, pixels, sigma=0.25, samples=2000, alpha=0.001)
    logits = model(pixels)
    distance = (logits[:, 1] - logits[:, 0]).abs() / weight.norm()
    assert bool((columns["radius"] <= distance).all())
    near = distance < 0.25  # two thousand votes cannot distinguish larger shares
    assert bool((columns["radius"][near] > 0.7 * distance[near] - 0.03).all())
    certified_rows = columns["pred"] >= 0
    assert torch.equal(columns["pred"][certified_rows].long(), logits.argmax(dim=1)[certified_rows])


def test_the_bound_is_the_exact_binomial_one() -> None:
    model, _ = half_space()
    columns = certified(model, images(12), sigma=0.25, samples=400, alpha=0.01)
    certified_rows = (columns["pred"] >= 0).tolist()
    assert any(certified_rows)
    for keep, first, second, radius in zip(
        certified_rows, *(columns[key].tolist() for key in ("votes_first", "votes_second", "radius")), strict=True
    ):
        low = binomtest(first, first + second, alternative="greater").proportion_ci(0.99, method="exact").low
        assert keep == (low > 0.5)
        assert radius == pytest.approx(0.25 * norm.ppf(low) if keep else 0.0, abs=1e-5)


def test_the_model_abstains_on_an_image_on_the_boundary() -> None:
    model, _ = half_space()
    columns = certified(model, torch.full((2, 3, 4, 4), 0.5), sigma=0.5, samples=500)
    assert columns["pred"].tolist() == [-1, -1]
    assert columns["radius"].tolist() == [0.0, 0.0]


def test_the_level_is_returned() -> None:
    columns = certified(half_space()[0], images(2), sigma=0.25, samples=50, alpha=0.05)
    assert columns["level"].tolist() == pytest.approx([0.95, 0.95])


def test_votes_do_not_depend_on_companions() -> None:
    model, pixels = half_space()[0], images(10)
    whole, few = certified(model, pixels, sigma=0.4, samples=64), certified(model, pixels[[6, 1]], ["6", "1"], sigma=0.4, samples=64)
    assert all(torch.equal(few[key], whole[key][[6, 1]]) for key in whole)


def test_the_bound_fails_as_rarely_as_alpha_states() -> None:
    """Over many keys, the bound passes the true share of votes at most as often as alpha allows."""
    model, weight = half_space()
    pixels = (0.5 + 0.1 * weight / weight.norm()).view(1, 3, 4, 4).clamp(0, 1).repeat(400, 1, 1, 1)
    logits = model(pixels[:1])
    distance = float((logits[0, 1] - logits[0, 0]) / weight.norm())
    columns = certified(model, pixels, sigma=0.4, samples=100, selection=20, alpha=0.1)
    wrong = int((columns["radius"] > abs(distance)).sum())
    assert wrong <= 40 + 3 * math.sqrt(400 * 0.1 * 0.9)
    assert np.ptp(columns["radius"].numpy()) > 0
