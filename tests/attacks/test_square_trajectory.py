"""The Square attack's whole path on a trained network, against Andriushchenko et al. 2020 written out for one image at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from curved import assert_same_path, batch, draws, logits_of, path, precise, recorded
from exact import classifier, images
from torch import Tensor, nn

from robustvit.attacks.square import _wave, square
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws

EPS = {"linf": 0.06, "l2": 0.8, "l1": 10.0}
STEPS = 75  # past two changes of the schedule, and past the 64 queries whose numbers are drawn together
TINY = 1e-12


def share_of(query: int, first: float = 0.8) -> float:
    """The share of the image that a square covers (section 5 there), counted in queries of a budget of 10,000."""
    halved = (query > 10) + (query > 50) + (query > 200) + (query > 500) + (query > 1000)
    return first / 2 ** (halved + (query > 2000) + (query > 4000) + (query > 6000) + (query > 8000))


def margin(image: Tensor, label: int) -> float:
    logits = logits_of(image)
    others = [float(one) for i, one in enumerate(logits) if i != label]
    return max(others) - float(logits[label])


def hill(height: int, width: int, power: int) -> Tensor:
    """The value of a pixel falls with the number of rings between it and the middle (section 4.2 there)."""
    rings = max(height // 2, width // 2)
    pixels = [
        [sum(1 / (ring + 1) ** power for ring in range(max(abs(r - height // 2), abs(s - width // 2)), rings + 1)) for s in range(width)]
        for r in range(height)
    ]
    return torch.tensor(pixels, dtype=torch.float64).view(height, width)


def wave(side: int, norm: str) -> Tensor:
    """A hill above a valley, each of norm 1, together of norm 1."""
    order, power = (2, 2) if norm == "l2" else (1, 4)
    parts = [hill(rows, side, power) for rows in (side // 2, side - side // 2) if rows]
    signed = [sign * part / part.norm(p=order) for sign, part in zip((1, -1) if len(parts) == 2 else (-1,), parts, strict=True)]
    whole = torch.cat(signed)
    return whole / whole.norm(p=order)


def fitted(image: Tensor, delta: Tensor, eps: float, norm: str) -> Tensor:
    """The image with the perturbation scaled to length eps and clipped (l2), or projected onto ball and box by bisection (l1)."""
    if norm == "l2":
        return (image + delta * eps / max(float(delta.norm()), TINY)).clamp(0, 1)

    def shrunk(by: float) -> Tensor:
        return (image + delta.sign() * (delta.abs() - by).clamp_min(0)).clamp(0, 1)

    low, high = 0.0, float(delta.abs().max())
    if float((shrunk(0.0) - image).abs().sum()) <= eps:
        return shrunk(0.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float((shrunk(middle) - image).abs().sum()) > eps * (1 - 1e-6) else (low, middle)
    return shrunk(high)


def first_iterate(image: Tensor, keyed: Draws, eps: float, norm: str) -> Tensor:
    """Vertical stripes (linf), or waves on a five by five grid (l2, l1). keyed: the random numbers of this image alone."""
    channels, height, width = image.shape
    if norm == "linf":
        coins = keyed.at("start").uniform(channels, 1, width)[0]
        return (image + torch.where(coins < 0.5, -eps, eps)).clamp(0, 1)
    side = height // 5
    signs = keyed.at("start").uniform(height // side, width // side, channels, 1, 1)[0]
    turned = keyed.at("start").at("turn").uniform(height // side, width // side, 1, 1, 1)[0]
    delta, border = torch.zeros_like(image), (height - 5 * side) // 2
    for i in range(height // side):
        for j in range(width // side):
            top, left = border + i * side, border + j * side
            tile = wave(side, norm).T if float(turned[i, j]) < 0.5 else wave(side, norm)
            for c in range(channels):
                place = delta[c, top : top + side, left : left + side]
                place += (tile * (-1 if float(signs[i, j, c]) < 0.5 else 1))[: place.shape[0], : place.shape[1]]
    return fitted(image, delta, eps, norm)


def proposal(image: Tensor, best: Tensor, numbers: Tensor, share: float, eps: float, norm: str) -> Tensor:
    """The next query (algorithms 2 and 3 there). numbers: two positions, an orientation, and a sign for each channel."""
    channels, height, width = image.shape
    side = max(round(math.sqrt(share * height * width)), 1 if norm == "linf" else 3)
    side = min(side if norm == "linf" or side % 2 else side + 1, height, width)
    corners = [int(float(one) * (size - side + 1)) for one, size in zip(numbers[:4], (height, width) * 2, strict=True)]
    window = (slice(None), slice(corners[0], corners[0] + side), slice(corners[1], corners[1] + side))
    other = (slice(None), slice(corners[2], corners[2] + side), slice(corners[3], corners[3] + side))
    signs = torch.where(numbers[5:] < 0.5, -1.0, 1.0).double().view(channels, 1, 1)
    if norm == "linf":
        moved = best.clone()
        moved[window] = best[window] + 2 * eps * signs
        return torch.minimum(torch.maximum(moved, image - eps), image + eps).clamp(0, 1)
    order, delta = (2 if norm == "l2" else 1), best - image
    either = torch.zeros_like(delta)
    either[window] = either[other] = 1
    held = torch.stack([one.norm(p=order) for one in delta * either]).view(-1, 1, 1)
    unused = max(eps**order - float(delta.norm(p=order)) ** order, 0.0) / channels
    old = delta[window] / torch.stack([one.norm(p=order) + TINY for one in delta[window]]).view(-1, 1, 1)
    fresh = old + signs * (wave(side, norm).T if float(numbers[4]) < 0.5 else wave(side, norm))
    fresh = fresh / torch.stack([one.norm(p=order) + TINY for one in fresh]).view(-1, 1, 1)
    budget = (unused + held**2).sqrt() if norm == "l2" else (unused + held) * channels
    delta[other] = 0
    delta[window] = fresh * budget
    return fitted(image, delta, eps, norm)


def walk(image: Tensor, label: int, keyed: Draws, norm: str, better: list[bool] | None = None) -> list[Tensor]:
    """Every query about one image: each proposal is kept that increases the margin, and the first that is misclassified is the last."""
    best = first_iterate(image, keyed, EPS[norm], norm)
    queries, reached = [best], margin(best, label)
    for query in range(STEPS):
        if reached > 0:
            break
        numbers = keyed.at(query // 64).uniform(64, 5 + len(image))[0, query % 64]
        queries.append(proposal(image, best, numbers, share_of(query), EPS[norm], norm))
        found = margin(queries[-1], label)
        if better is not None:
            better.append(found > reached)
        if found > reached:
            best, reached = queries[-1], found
    return queries


@pytest.fixture(scope="module")
def attacked() -> Batch:
    return batch(precise(), 5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_each_query_is_that_of_the_paper(norm: str, attacked: Batch) -> None:
    keyed, lengths, better = draws(attacked), set(), []
    with recorded() as seen:
        square(precise(), attacked.images, attacked.labels, keyed, eps=EPS[norm], norm=norm, steps=STEPS)  # type: ignore[arg-type]
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        expected = walk(image, label, keyed[torch.tensor([row])], norm, better)
        assert_same_path(path(seen, row), expected)
        lengths.add(len(expected))
    assert STEPS + 1 in lengths
    assert min(lengths) < STEPS + 1
    assert {True, False} == set(better)


class Flat(nn.Module):
    """Logits that no pixel changes."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(pixels), -1)


@pytest.mark.slow
def test_the_squares_shrink_after_the_queries_that_the_paper_states() -> None:
    side, channels, keyed, image = 64, 3, Draws(0, "x", ["a"]), images(1, 64)
    with recorded() as seen:
        square(classifier(Flat(), side=side, tile=1), image, torch.tensor([0]), keyed, eps=0.05, steps=8300)
    first = seen[0].pixels
    for block in range(8300 // 64):
        numbers = keyed.at(block).uniform(64, 5 + channels)[0]
        for query in range(block * 64, block * 64 + 64):
            found = seen[query + 1].pixels != first
            expected = proposal(image[0], first, numbers[query % 64], share_of(query), 0.05, "linf") != first
            assert bool((found == expected).all()), f"query {query}"


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 9, 14])
def test_a_wave_is_that_of_the_authors_later_code(norm: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("pyautoattack.square", reason="pyautoattack is not installed: robustvit[pyautoattack]")
    monkeypatch.setattr(peer.torch, "rand", lambda *size: torch.zeros(*size))  # which would turn it
    theirs: Callable[[int], Tensor] = peer.SquareAttack(lambda x: x, norm=norm.upper(), device="cpu").eta
    assert torch.allclose(_wave(side, norm, torch.zeros(1)), theirs(side), atol=1e-6)  # type: ignore[arg-type]
