"""A small network trained on digits, whose decision boundaries are curved, and what attacks ask of it, in order.

It computes in float64 and is smooth, so that an attack's whole path can be compared with that of another implementation.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from exact import classifier
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.attack_search import Search
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws

SIDE, CLASSES = 16, 10
_TRAINED_ON, _STEPS, _BATCH = 1200, 120, 100


class Query(NamedTuple):
    """One image that an attack gave the model. gradient: whether it took a gradient there."""

    row: int
    pixels: Tensor
    gradient: bool


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """All digits of scikit-learn, (N, 3, 16, 16) float32 in [0, 1], and their classes."""
    raw = load_digits()
    grey = functional.interpolate(torch.from_numpy(raw.images / 16)[:, None].float(), (SIDE, SIDE), mode="bilinear")
    return torch.cat((grey, 0.2 + 0.6 * grey, 1.0 - 0.8 * grey), dim=1), torch.from_numpy(raw.target).long()


@functools.cache
def network() -> nn.Module:
    """Two convolutions and a layer, trained for two seconds."""
    pixels, labels = (one[:_TRAINED_ON] for one in digits())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(16 * 4 * 4, CLASSES)
        )  # fmt: skip
        optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
        for step in range(_STEPS):
            chosen = torch.arange(step * _BATCH, (step + 1) * _BATCH) % _TRAINED_ON
            optimizer.zero_grad()
            functional.cross_entropy(module(pixels[chosen]), labels[chosen]).backward()
            optimizer.step()
    return module.eval().requires_grad_(False)


def trained(tile: int = 32) -> Classifier:
    """The network in float32."""
    return classifier(copy.deepcopy(network()), side=SIDE, tile=tile)


def precise(tile: int = 8) -> Classifier:
    """The network in float64."""
    return trained(tile).double()


def batch(model: Classifier, count: int, dtype: torch.dtype = torch.float64) -> Batch:
    """The first images that it was not trained on and classifies correctly."""
    pixels, labels = (one[_TRAINED_ON:] for one in digits())
    right = torch.cat([model(part).argmax(dim=1) for part in pixels[: 3 * count].to(dtype).split(model.tile)]) == labels[: 3 * count]
    chosen = right.nonzero().flatten()[:count]
    assert len(chosen) == count
    return Batch(pixels[chosen].to(dtype), labels[chosen], tuple(f"d{i}" for i in chosen.tolist()))


@contextmanager
def recorded() -> Iterator[list[Query]]:
    """Context in which every query of every attack is kept, in order."""
    seen: list[Query] = []

    def keeping(method: Callable[..., Any], gradient: bool) -> Callable[..., Any]:
        def call(search: Search, rows: Tensor, pixels: Tensor, *given: Any, **more: Any) -> Any:
            seen.extend(Query(int(row), one.detach().clone(), gradient) for row, one in zip(rows, pixels, strict=True))
            return method(search, rows, pixels, *given, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Search, "query", keeping(Search.query, False))
        patch.setattr(Search, "query_gradient", keeping(Search.query_gradient, True))
        yield seen


def path(seen: list[Query], row: int, gradient: bool | None = None) -> list[Tensor]:
    """The images asked about a sample, in order. gradient: only those with a gradient, or without."""
    return [one.pixels for one in seen if one.row == row and gradient in (None, one.gradient)]


def assert_same_path(seen: list[Tensor], expected: list[Tensor], tolerance: float = 1e-6) -> None:
    """Fails at the first step that differs."""
    for step, (one, other) in enumerate(zip(seen, expected, strict=False)):
        apart = float((one - other).abs().max())
        assert apart <= tolerance, f"step {step} is {apart:.3g} off"
    assert len(seen) == len(expected)


def draws(batch: Batch, seed: int = 0) -> Draws:
    """The random numbers of a batch's samples."""
    return Draws(seed, "curved", batch.ids)


def logits_of(image: Tensor) -> Tensor:
    """The logits of one image, (K,), straight from the module in float64."""
    return _module64()(image[None])[0]


def value_and_gradient(function: Callable[[Tensor], Tensor], image: Tensor) -> tuple[float, Tensor]:
    """A function of the logits of one image, and its gradient in the pixels."""
    leaf = image.detach().clone().requires_grad_(True)
    value = function(logits_of(leaf))
    return float(value.detach()), torch.autograd.grad(value, leaf)[0]


@functools.cache
def _module64() -> nn.Module:
    return copy.deepcopy(network()).double()
