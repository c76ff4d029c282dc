"""The fits of the universal perturbation and the universal patch on a trained network, against plain loops that redo every step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from curved import SIDE, assert_same_path, batch, draws, path, precise, recorded
from exact import few, load_batch
from torch import Tensor
from torch.nn import functional

from robustvit.attacks.universal import fit_perturbation, uap
from robustvit.attacks.universal_patch import Placement, fit_patch, placed, universal_patch
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.spec.sample_order import order

COUNT, CHOSEN, EPOCHS, EACH = 150, 140, 2, 64  # three batches in each epoch, the last of twelve images
CLIP = 0.2  # many images pass it on the way
ONE = Draws(0, "fit", ["l"])


@pytest.fixture(scope="module")
def given() -> Batch:
    return batch(precise(), COUNT)


def batches(given: Batch) -> list[list[int]]:
    """The positions of each step's images: the first in evaluation order, shuffled anew for each epoch."""
    chosen = order(few(given.labels, SIDE).ids)[:CHOSEN]
    shuffled = [chosen[ONE.at(epoch).permutation(CHOSEN)[0].numpy()].tolist() for epoch in range(EPOCHS)]
    return [epoch[start : start + EACH] for epoch in shuffled for start in range(0, CHOSEN, EACH)]


def decays() -> list[float]:
    turns = EPOCHS * math.ceil(CHOSEN / EACH)
    return [0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn / turns)) for turn in range(turns)]


def log_odds(logits: Tensor, of: Tensor) -> Tensor:
    """The log odds of each row against a class, log (1 − p) − log p, without rounding p."""
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[torch.arange(len(of)), of] = True
    return logits[~own].view(len(of), -1).exp().sum(dim=1).log() - logits[own]


def mean_log_odds(images: Tensor, labels: Tensor, most: float) -> tuple[Tensor, int]:
    """The mean log odds against the label of cross-entropies up to `most`, and how many pass it."""
    logits = precise()(images)
    below = functional.cross_entropy(logits, labels, reduction="none") < most
    return torch.where(below, log_odds(logits, labels), 0.0).sum() / len(images), int((~below).sum())


def onto_ball(delta: Tensor, eps: float, norm: str) -> Tensor:
    if norm == "linf":
        return delta.clamp(-eps, eps)
    if norm == "l2":
        return delta * min(1.0, eps / float(delta.norm()))
    low, high = 0.0, float(delta.abs().max())
    for _ in range(60 if float(delta.abs().sum()) > eps else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if float((delta.abs() - middle).clamp_min(0).sum()) > eps else (low, middle)
    return delta.sign() * (delta.abs() - low).clamp_min(0)


def direction(gradient: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / gradient.norm()
    return torch.where(gradient.abs() == gradient.abs().max(), gradient.sign(), 0.0)


@pytest.mark.parametrize(("norm", "eps", "step"), [("linf", 0.08, None), ("linf", 0.08, 0.05), ("l2", 1.2, 0.7), ("l1", 10.0, 5.0)])
def test_each_step_of_the_perturbation_ascends_the_clipped_loss_of_a_batch(norm: str, eps: float, step: float | None, given: Batch) -> None:
    delta, clipped, projected = torch.zeros(3, SIDE, SIDE, dtype=torch.float64), 0, 0
    for positions, decay in zip(batches(given), decays(), strict=True):
        leaf = (given.images[positions] + delta).clamp(0, 1).requires_grad_(True)  # the gradient is that of the pixels that the model sees
        value, passed = mean_log_odds(leaf, given.labels[positions], CLIP)
        moved = delta + (step or eps / 5) * decay * direction(torch.autograd.grad(value, leaf)[0].sum(dim=0), norm)
        delta = onto_ball(moved, eps, norm)
        clipped, projected = clipped + passed, projected + (not torch.allclose(moved, delta))
    load = load_batch(given.images, given.labels)
    made = fit_perturbation(
        precise(), load, ONE, eps=eps, train=few(given.labels, SIDE), norm=norm, samples=CHOSEN, epochs=EPOCHS, step=step, clip=CLIP  # type: ignore[arg-type]
    )  # fmt: skip
    assert_same_path([made["perturbation"][0]], [delta])
    assert clipped
    assert bool(projected) == (step is not None)
    with recorded() as seen:
        uap(precise(), given.images[:4], given.labels[:4], draws(given), made, eps=eps, train=few(given.labels, SIDE), norm=norm)  # type: ignore[arg-type]
    assert_same_path([path(seen, row)[0] for row in range(4)], [(image + delta).clamp(0, 1) for image in given.images[:4]])


def pasted(image: Tensor, patch: Tensor, numbers: Tensor, placement: Placement) -> Tensor:
    """The image with the patch on it, one pixel at a time: rotated about its centre, resized, and read by bilinear interpolation."""
    height, width = image.shape[1:]
    short, size = min(height, width), patch.shape[1]
    half = (placement.smallest + (placement.largest - placement.smallest) * float(numbers[0])) * short / 2
    angle = (2 * float(numbers[1]) - 1) * math.radians(placement.rotation)
    reach = half * (abs(math.cos(angle)) + abs(math.sin(angle))) if placement.shape == "square" else half
    down, across = reach + float(numbers[2]) * (height - 2 * reach), reach + float(numbers[3]) * (width - 2 * reach)
    rows = []
    for r in range(height):
        row = []
        for c in range(width):
            y, x = r + 0.5 - down, c + 0.5 - across
            u, v = (x * math.cos(angle) + y * math.sin(angle)) / half, (y * math.cos(angle) - x * math.sin(angle)) / half
            inside = max(abs(u), abs(v)) <= 1 if placement.shape == "square" else u * u + v * v <= 1
            row.append(interpolated(patch, (v + 1) * size / 2 - 0.5, (u + 1) * size / 2 - 0.5) if inside else image[:, r, c])
        rows.append(torch.stack(row, dim=1))
    return torch.stack(rows, dim=1)


def interpolated(patch: Tensor, down: float, across: float) -> Tensor:
    most = patch.shape[1] - 1
    down, across = min(max(down, 0.0), most), min(max(across, 0.0), most)
    top, left = math.floor(down), math.floor(across)
    low, right, a, b = min(top + 1, most), min(left + 1, most), down - top, across - left
    above = (1 - b) * patch[:, top, left] + b * patch[:, top, right]
    return (1 - a) * above + a * ((1 - b) * patch[:, low, left] + b * patch[:, low, right])


def mean_objective(images: Tensor, labels: Tensor, target: int | None) -> Tensor:
    """The mean over images of the log odds against the label, or for the target, each as far as nine."""
    logits = precise()(images)
    odds = log_odds(logits, labels) if target is None else -log_odds(logits, torch.full_like(labels, target))
    return torch.where(odds < 9, odds, 0.0).sum() / len(images)


@pytest.mark.parametrize(("shape", "target"), [("circle", None), ("square", 3)])
def test_each_step_of_the_patch_ascends_over_places_sizes_and_rotations(shape: Any, target: int | None, given: Batch) -> None:
    few_images = given[torch.arange(40)]
    placement, black, white, smoothness, step = Placement(0.3, 0.5, 25.0, shape), 0.1, 0.9, 2.0, 0.15
    data, load = few(few_images.labels, SIDE), load_batch(few_images.images, few_images.labels)
    patch = ONE.at("start").uniform(3, 8, 8, low=black, high=white)[0].double()
    chosen = [one for one in order(data.ids)[:30].tolist() if few_images.labels[one] != target]
    for turn in range(2):
        positions = [chosen[one] for one in ONE.at(turn).permutation(len(chosen))[0].tolist()]
        ids = [data.ids[one] for one in positions]
        numbers = Draws(ONE.seed, ONE.at(turn).stream, ids).at("placement").uniform(4)
        leaf = patch.clone().requires_grad_(True)
        moved = torch.stack([pasted(few_images.images[one], leaf, its, placement) for one, its in zip(positions, numbers, strict=True)])
        value = mean_objective(moved, few_images.labels[positions], target)
        grain = (leaf[:, 1:] - leaf[:, :-1]).abs().mean() + (leaf[:, :, 1:] - leaf[:, :, :-1]).abs().mean()
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn / 2))
        patch = (patch + step * decay * torch.autograd.grad(value - smoothness * grain, leaf)[0].sign()).clamp(black, white)
    made = fit_patch(
        precise(), load, ONE, train=data, **placement._asdict(), target=target, black=black, white=white, smoothness=smoothness,
        samples=30, epochs=2, step=step,
    )  # fmt: skip
    assert_same_path([made["patch"]], [patch])
    three = few_images[torch.arange(3)]
    with recorded() as seen:
        universal_patch(precise(), three.images, three.labels, draws(three), made, train=data, **placement._asdict())
    numbers = draws(three).at("placement").uniform(4)
    expected = [pasted(image, patch, its, placement) for image, its in zip(three.images, numbers, strict=True)]
    assert_same_path([path(seen, row)[0] for row in range(3)], expected)


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_a_patch_is_pasted_as_by_a_loop_over_pixels(shape: Any, given: Batch) -> None:
    patch, numbers = Draws(0, "patch", ["p"]).uniform(3, 5, 5)[0].double(), Draws(0, "n", ["a", "b", "c"]).uniform(4)
    placement = Placement(0.25, 0.6, 40.0, shape)
    found = placed(given.images[:3], patch, numbers.double(), placement)
    expected = [pasted(image, patch, its, placement) for image, its in zip(given.images[:3], numbers, strict=True)]
    assert_same_path(list(found), expected)
