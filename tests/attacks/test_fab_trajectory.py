"""FAB's whole path on a trained network, against algorithm 1 of Croce and Hein 2020 written out for one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from curved import assert_same_path, batch, draws, logits_of, path, precise, recorded, value_and_gradient
from torch import Tensor

from robustvit.attacks.fab import fab, fab_t
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws

NORMS = ("linf", "l2", "l1")
ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9  # section 4 of the paper
DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
ORDER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}


class Walk(NamedTuple):
    """One image's path: where gradients are taken, where predictions, and the nearest adversarial image with its distance."""

    gradients: list[Tensor]
    predictions: list[Tensor]
    nearest: Tensor | None
    distance: float


def projected(point: Tensor, normal: Tensor, offset: float, norm: str) -> Tensor:
    """The nearest point of the plane normal·z + offset = 0 inside the box, by bisection or one coordinate at a time (section 2 there)."""
    z, w = point.flatten(), normal.flatten()
    need = float(w @ z) + offset
    toward = -w * (1.0 if need > 0 else -1.0)

    def at(length: float) -> Tensor:
        return (z + length * (toward.sign() if norm == "linf" else toward)).clamp(0.0, 1.0)

    if norm == "l1":
        moved, left = z.clone(), abs(need)
        for i in w.abs().argsort(descending=True).tolist():
            room = float(1 - z[i] if toward[i] > 0 else z[i])
            step = min(room, left / float(w[i].abs())) if float(w[i].abs()) else 0.0
            moved[i] += step * float(toward[i].sign())
            left -= step * float(w[i].abs())
            if left <= 0:
                break
        return moved.view_as(point)
    low, high = 0.0, 1.0
    while norm == "l2" and high < 1e12 and float(toward @ (at(high) - z)) < abs(need):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(toward @ (at(middle) - z)) < abs(need) else (low, middle)
    return at(high).view_as(point)


def length(delta: Tensor, norm: str) -> float:
    return float(delta.flatten().norm(p=ORDER[norm]))


def walk(image: Tensor, label: int, classes: Sequence[int], start: Tensor, steps: int, norm: str, known: Walk | None = None) -> Walk:
    """Algorithm 1, without its final search. classes: whose boundaries are tried at each step. known: of runs before."""
    x, gradients, predictions = start.clone(), [], []
    nearest, distance = (known.nearest, known.distance) if known else (None, float("inf"))
    for _ in range(steps):
        planes = []
        for other in classes:
            gap, normal = value_and_gradient(lambda logits, other=other: logits[other] - logits[label], x)  # type: ignore[misc]
            gradients.append(x)
            planes.append((abs(gap) / float(normal.flatten().norm(p=DUAL[norm])), gap, normal))
        _, gap, normal = min(planes, key=lambda one: one[0])
        offset = gap - float((normal * x).sum())
        here, home = projected(x, normal, offset, norm), projected(image, normal, offset, norm)
        alpha = min(length(here - x, norm) / (length(here - x, norm) + length(home - image, norm)), ALPHA_MAX)
        x = ((1 - alpha) * (x + ETA * (here - x)) + alpha * (image + ETA * (home - image))).clamp(0.0, 1.0)
        predictions.append(x)
        if int(logits_of(x).argmax()) != label:
            if length(x - image, norm) < distance:
                nearest, distance = x, length(x - image, norm)
            x = (1 - BETA) * image + BETA * x
    return Walk(gradients, predictions, nearest, distance)


def ranked(image: Tensor, label: int) -> list[int]:
    """The wrong classes, the most likely first."""
    return [one for one in logits_of(image).argsort(descending=True).tolist() if one != label]


def half_radius_start(images: Tensor, draws: Draws, radius: Sequence[float], norm: str) -> Tensor:
    """A point drawn in the ball of half the radius around each image (section 3.3 there)."""
    size = images[0].numel()
    if norm == "linf":
        noise = draws.uniform(*images.shape[1:], low=-1.0, high=1.0).double()
    else:
        normal, share = draws.normal(*images.shape[1:]).double().flatten(1), draws.at("radius").uniform(1).double()
        unit = normal / normal.norm(p=ORDER[norm], dim=1, keepdim=True)
        noise = (unit * (share ** (1 / size) if norm == "l2" else share)).view_as(images)
    return (images + noise * torch.tensor(radius).double().view(-1, 1, 1, 1) / 2).clamp(0.0, 1.0)


@pytest.fixture(scope="module")
def attacked() -> Batch:
    return batch(precise(), 3)


@pytest.mark.parametrize("norm", NORMS)
def test_each_step_is_that_of_the_paper(norm: str, attacked: Batch) -> None:
    with recorded() as seen:
        crafted = fab(precise(), attacked.images, attacked.labels, draws(attacked), norm=norm, steps=6)  # type: ignore[arg-type]
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        expected = walk(image, label, ranked(image, label), image, 6, norm)
        assert_same_path(path(seen, row, gradient=True), expected.gradients)
        assert_same_path(path(seen, row, gradient=False), expected.predictions)
        assert expected.nearest is not None
        assert_same_path([crafted.images[row]], [expected.nearest])


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_runs_go_to_the_most_likely_classes_one_after_the_other(norm: str, attacked: Batch) -> None:
    with recorded() as seen:
        crafted = fab_t(precise(), attacked.images, attacked.labels, draws(attacked), norm=norm, steps=4, targets=3)  # type: ignore[arg-type]
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        runs, best = [], None
        for target in ranked(image, label)[:3]:
            best = walk(image, label, [target], image, 4, norm, best)
            runs.append(best)
        assert_same_path(path(seen, row, gradient=True), [one for run in runs for one in run.gradients])
        assert_same_path(path(seen, row, gradient=False), [one for run in runs for one in run.predictions])
        assert best is not None
        assert best.nearest is not None
        assert_same_path([crafted.images[row]], [best.nearest])


@pytest.mark.parametrize("norm", NORMS)
def test_later_runs_start_at_random_within_half_of_what_was_found(norm: str, attacked: Batch) -> None:
    keyed, images = draws(attacked), attacked.images
    with recorded() as seen:
        crafted = fab(precise(), images, attacked.labels, keyed, norm=norm, steps=3, restarts=2, classes=2)  # type: ignore[arg-type]
    first = [
        walk(image, label, ranked(image, label)[:2], image, 3, norm) for image, label in zip(images, attacked.labels.tolist(), strict=True)
    ]
    starts = half_radius_start(images, keyed.at("1/any"), [min(run.distance, 1.0) for run in first], norm)
    for row, (image, label) in enumerate(zip(images, attacked.labels.tolist(), strict=True)):
        second = walk(image, label, ranked(image, label)[:2], starts[row], 3, norm, first[row])
        assert_same_path(path(seen, row, gradient=False), first[row].predictions + second.predictions)
        assert second.nearest is not None
        assert_same_path([crafted.images[row]], [second.nearest])


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_radius_a_sample_stops_at_its_first_image_inside(norm: str, attacked: Batch) -> None:
    full = [
        walk(image, label, ranked(image, label)[:2], image, 6, norm)
        for image, label in zip(attacked.images, attacked.labels.tolist(), strict=True)
    ]
    eps = sorted(run.distance for run in full)[0] * 1.0001
    with recorded() as seen:
        fab(precise(), attacked.images, attacked.labels, draws(attacked), eps=eps, norm=norm, steps=6, classes=2)  # type: ignore[arg-type]
    stopped = 0
    for row, (image, label) in enumerate(zip(attacked.images, attacked.labels.tolist(), strict=True)):
        inside = [
            step for step, x in enumerate(full[row].predictions)
            if length(x - image, norm) <= eps and int(logits_of(x).argmax()) != label
        ]  # fmt: skip
        until = inside[0] + 1 if inside else 6
        stopped += bool(inside)
        assert_same_path(path(seen, row, gradient=False), full[row].predictions[:until])
    assert 0 < stopped < 3
