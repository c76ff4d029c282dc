"""The whole paths of DDN, FMN and Carlini and Wagner's attack on a trained network, against the papers for one image at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from curved import assert_same_path, batch, draws, logits_of, path, precise, recorded, value_and_gradient
from torch import Tensor
from torch.nn import functional

from robustvit.attacks.minimum_norm import cw, ddn, fmn
from robustvit.primitives.batch import Batch

ORDER = {"linf": math.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}
DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf, "l0": math.inf}


class Walk(NamedTuple):
    """One image's queries, in order, and how often each branch of the algorithm was taken."""

    queries: list[Tensor]
    branches: dict[str, int]


def cosine(step: int, steps: int, first: float, last: float) -> float:
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * step / steps))


def length(delta: Tensor, norm: str) -> float:
    return float((delta != 0).sum()) if norm == "l0" else float(delta.flatten().norm(p=ORDER[norm]))


def fooled(image: Tensor, label: int) -> bool:
    return int(logits_of(image).argmax()) != label


def margin(logits: Tensor, label: int) -> Tensor:
    return torch.cat((logits[:label], logits[label + 1 :])).max() - logits[label]


def nearest(queries: list[Tensor], image: Tensor, label: int, norm: str, confidence: float = 0.0) -> Tensor:
    """The nearest adversarial query, of those with at least the confidence where there are any."""
    adversarial = [one for one in queries if fooled(one, label)]
    sure = [one for one in adversarial if float(margin(logits_of(one), label)) >= confidence]
    return min(sure or adversarial, key=lambda one: length(one - image, norm))


def ddn_walk(image: Tensor, label: int, steps: int, gamma: float, radius: float) -> Walk:
    """Algorithm 1 of Rony et al. 2019. The first sphere has the radius itself."""
    delta, at, queries, branches = torch.zeros_like(image), image, [], {"in": 0, "out": 0}
    for step in range(steps):
        queries.append(at)
        _, gradient = value_and_gradient(lambda logits: functional.cross_entropy(logits[None], torch.tensor([label])), at)
        delta = delta + cosine(step, steps, 1.0, 0.01) * gradient / gradient.norm()
        if step:
            branch = "in" if fooled(at, label) else "out"
            branches[branch] += 1
            radius *= {"in": 1 - gamma, "out": 1 + gamma}[branch]
        at = (image + radius * delta / delta.norm()).clamp(0, 1)
        delta = at - image
    return Walk([*queries, at], branches)


def onto_ball(delta: Tensor, radius: float, norm: str) -> Tensor:
    """The nearest point of a ball; l1 by bisection over the threshold, l0 one value after the other."""
    if norm == "linf":
        return delta.clamp(-radius, radius)
    if norm == "l2":
        return delta if float(delta.norm()) <= radius else delta * radius / float(delta.norm())
    if norm == "l0":
        kept = torch.zeros_like(delta).flatten()
        for at in delta.flatten().abs().argsort(descending=True, stable=True)[: int(min(radius, delta.numel()))].tolist():
            kept[at] = delta.flatten()[at]
        return kept.view_as(delta)
    if float(delta.abs().sum()) <= radius:
        return delta
    low, high = 0.0, float(delta.abs().max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float((delta.abs() - middle).clamp_min(0).sum()) > radius else (low, middle)
    return delta.sign() * (delta.abs() - high).clamp_min(0)


def fmn_walk(image: Tensor, label: int, steps: int, gamma: float, first: float, norm: str) -> Walk:
    """Algorithm 1 of Pintor et al. 2021; the estimated boundary is overshot by a ten-thousandth, and the radius never rests before it."""
    delta, radius, best, queries, branches = torch.zeros_like(image), math.inf, math.inf, [], {"in": 0, "out": 0, "ahead": 0, "stuck": 0}
    for step in range(steps):
        queries.append(image + delta)
        gap, gradient = value_and_gradient(lambda logits: margin(logits, label), image + delta)
        change = cosine(step, steps, gamma, 0.001)
        if gap > 0:
            best = min(best, length(delta, norm))
            less = radius * (1 - change)
            radius = min(less, best) if norm != "l0" or math.isinf(radius) else min(radius - 1, math.floor(less), best)
            branches["in"] += 1
        elif best < math.inf:
            more = radius * (1 + change)
            radius = more if norm != "l0" else max(radius + 1, math.floor(more))
            branches["out"] += 1
        else:
            ahead = (length(delta, norm) + abs(gap) / float(gradient.flatten().norm(p=DUAL[norm]))) * 1.0001
            ahead = ahead if norm != "l0" else math.ceil(ahead)
            more = radius * (1 + change) if norm != "l0" or math.isinf(radius) else max(radius + 1, math.floor(radius * (1 + change)))
            branches["ahead" if math.isinf(radius) or ahead >= more else "stuck"] += 1
            radius = ahead if math.isinf(radius) else max(ahead, more)
        delta = onto_ball(delta + cosine(step, steps, first, first / 100) * gradient / gradient.norm(), radius, norm)
        delta = (image + delta).clamp(0, 1) - image
    return Walk([*queries, image + delta], branches)


def cw_walk(image: Tensor, label: int, steps: int, searches: int, rate: float, weight: float, confidence: float) -> Walk:
    """Section VI-A of Carlini and Wagner 2017, with Adam from torch; the weight is in units of the gradient's length at the image."""
    _, slope = value_and_gradient(lambda logits: margin(logits, label), image)
    queries, low, high, branches = [image], 0.0, math.inf, {"ten times": 0, "down": 0, "up": 0}
    for _ in range(searches):
        variable = torch.atanh((2 * image - 1).clamp(-1 + 1e-6, 1 - 1e-6)).requires_grad_(True)
        adam, found = torch.optim.Adam([variable], lr=rate), False
        for _ in range(steps):
            moved = (torch.tanh(variable) + 1) / 2
            reached = margin(logits_of(moved), label)
            found = found or (fooled(moved.detach(), label) and float(reached.detach()) >= confidence)
            queries.append(moved.detach())
            adam.zero_grad()
            ((moved - image).square().sum() + weight / float(slope.norm()) * (-reached).clamp_min(-confidence)).backward()
            adam.step()
        low, high = (low, weight) if found else (weight, high)
        branches["down" if found else "ten times" if math.isinf(high) else "up"] += 1
        weight = weight * 10 if math.isinf(high) else (low + high) / 2
    return Walk(queries, branches)


def assert_as_walked(
    attack: Callable[..., object], walk: Callable[[Tensor, int], Walk], given: Batch, norm: str, confidence: float = 0
) -> None:
    """Runs an attack and compares, for each image, all queries and the result; every branch must have been taken, but for a rescue."""
    taken: dict[str, int] = {}
    with recorded() as seen:
        crafted = attack(precise(), given.images, given.labels, draws(given))
    for row, (image, label) in enumerate(zip(given.images, given.labels.tolist(), strict=True)):
        expected = walk(image, label)
        assert_same_path(path(seen, row), expected.queries)
        assert_same_path([crafted.images[row]], [nearest(expected.queries, image, label, norm, confidence)])  # type: ignore[attr-defined]
        taken = {branch: taken.get(branch, 0) + times for branch, times in expected.branches.items()}
    assert all(times for branch, times in taken.items() if branch != "stuck"), taken


@pytest.fixture(scope="module")
def attacked() -> Batch:
    return batch(precise(), 3)


def test_ddn_shrinks_and_grows_its_sphere_along_a_cosine_of_steps(attacked: Batch) -> None:
    def attack(*given: object) -> object:
        return ddn(*given, steps=25, gamma=0.07, radius=0.5)  # type: ignore[arg-type]

    assert_as_walked(attack, lambda image, label: ddn_walk(image, label, 25, 0.07, 0.5), attacked, "l2")


@pytest.mark.parametrize(("norm", "first"), [("linf", 0.5), ("l2", 0.3), ("l1", 2.0), ("l0", 2.0)])
def test_fmn_follows_the_boundary_that_it_estimates(norm: str, first: float, attacked: Batch) -> None:
    def attack(*given: object) -> object:
        return fmn(*given, norm=norm, steps=25, gamma=0.06, step=first)  # type: ignore[arg-type]

    assert_as_walked(attack, lambda image, label: fmn_walk(image, label, 25, 0.06, first, norm), attacked, norm)


@pytest.mark.parametrize(("norm", "first"), [("linf", 1.0), ("l2", 1.0), ("l1", 1.0), ("l1", 4.0), ("l0", 1.0), ("l0", 10.0)])
def test_fmn_fools_the_model_on_every_image_also_where_clipping_takes_most_of_a_step(norm: str, first: float) -> None:
    given = batch(precise(), 32)
    crafted = fmn(precise(32), given.images, given.labels, draws(given), norm=norm, steps=100, step=first)  # type: ignore[arg-type]
    assert bool(crafted.fooled.all())  # type: ignore[union-attr]


@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_cw_bisects_the_weight_and_steps_as_adam_does(confidence: float, attacked: Batch) -> None:
    def attack(*given: object) -> object:
        return cw(*given, steps=20, searches=6, rate=0.05, weight=0.05, confidence=confidence)  # type: ignore[arg-type]

    assert_as_walked(attack, lambda image, label: cw_walk(image, label, 20, 6, 0.05, 0.05, confidence), attacked, "l2", confidence)
