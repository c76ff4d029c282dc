"""The attack on attribution maps: a loop by hand, its promises, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from vits import TILE, images, made, swin, vit

from robustvit.attacks.attribution_attack import attribution_attack, attribution_attack_passes
from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.attribution.methods import attribution, differentiable_attribution
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import random_start
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenario import scenario
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

COUNT, EPS = TILE + 2, 16 / 255
DRAWS = Draws(0, "x", [str(row) for row in range(COUNT)])
LABELS = torch.zeros(COUNT, dtype=torch.int64)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    one, other = first.flatten(1), second.flatten(1)
    return (one * other).sum(dim=1) / (one.square().sum(dim=1).sqrt() * other.square().sum(dim=1).sqrt())


def test_an_attack_step_by_step() -> None:
    model, pixels, steps = made(vit, 6.0).double(), images(COUNT).double(), 6
    answers = model(pixels).argmax(dim=1)
    clean = attribution("legrad", model, pixels, answers, DRAWS).double()
    low, high = (pixels - EPS).clamp(0, 1), (pixels + EPS).clamp(0, 1)
    iterate = (pixels + random_start(pixels, EPS, "linf", DRAWS)).clamp(low, high)
    least, best, left = torch.ones(COUNT).double(), pixels.clone(), 0
    for turn in range(steps + 1):
        leaf = iterate.clone().requires_grad_()
        maps = torch.cat([differentiable_attribution("legrad", model, leaf[i : i + 1], answers[i : i + 1]) for i in range(COUNT)])
        found = cosine(maps, clean)
        (down,) = torch.autograd.grad(found.sum(), leaf)
        leaf = iterate.clone().requires_grad_()
        logits = model(leaf)
        (up,) = torch.autograd.grad(-logits.log_softmax(dim=1).gather(1, answers[:, None]).sum(), leaf)
        same = logits.argmax(dim=1) == answers
        left += int((~same).sum())
        for row in range(COUNT):
            if same[row] and found[row] < least[row]:
                least[row], best[row] = found[row].detach(), iterate[row]
        if turn < steps:
            moves = torch.where(same[:, None, None, None], down, up)
            iterate = (iterate - 2.5 * EPS / steps * moves.sign()).clamp(low, high)
    ours = attribution_attack(model, pixels, LABELS, DRAWS, eps=EPS, steps=steps)
    assert left > 0, "some iterate must leave the prediction, or the way back is not tried"
    assert torch.allclose(ours.images, best, atol=1e-6)
    assert torch.allclose(ours.columns["value_attribution_cosine"].double(), least, atol=1e-4)


@pytest.mark.parametrize("name", ["legrad", "rollout", "gradient", "gradcam", "identifiability"])
def test_the_prediction_stays_and_the_map_moves_more_than_by_noise(name: Any) -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    answers = model(pixels).argmax(dim=1)
    found = attribution_attack(model, pixels, LABELS, DRAWS, eps=EPS, steps=8, attribution=name)
    assert torch.equal(model(found.images).argmax(dim=1), answers)
    assert float((found.images - pixels).abs().max()) <= EPS + 1e-6
    clean = attribution(name, model, pixels, answers, DRAWS)
    attacked = cosine(attribution(name, model, found.images, answers, DRAWS), clean)
    assert torch.allclose(found.columns["value_attribution_cosine"], attacked, atol=1e-4)
    noisy = (pixels + EPS * (DRAWS.at("noise").uniform(3, 32, 32) - 0.5).sign()).clamp(0, 1)
    noise = cosine(attribution(name, model, noisy, answers, DRAWS), clean)
    assert float((1 - attacked).mean()) > 1.5 * float((1 - noise).mean())


def test_a_row_depends_on_itself_alone() -> None:
    model, pixels = made(vit, 6.0), images(COUNT)
    whole = attribution_attack(model, pixels, LABELS, DRAWS, eps=EPS, steps=3)
    for rows in (torch.tensor([5]), torch.tensor([3, 0])):
        alone = attribution_attack(model, pixels[rows], LABELS[rows], DRAWS[rows], eps=EPS, steps=3)
        assert torch.equal(alone.images, whole.images[rows])
        for column, values in whole.columns.items():
            assert torch.equal(alone.columns[column], values[rows]), column


def test_as_a_scenario_it_keeps_the_budget_and_tells_its_cosine() -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    labels = model(pixels).argmax(dim=1)
    labels[2] = (labels[2] + 1) % 5
    spec = bind(lookup("attack", "attribution_attack"), parse({"attribution_attack": {"eps": "8/255", "steps": 3}})[0])
    outcome = scenario(lookup("attack", "attribution_attack"), spec)(model, Batch(pixels, labels, DRAWS.ids), DRAWS)
    assert outcome.images is not None
    assert float(outcome.columns["linf"].max()) <= 8 / 255 + 1e-6
    assert outcome.columns["value_attribution_cosine"].isnan().tolist() == [False, False, True, False, False, False]
    assert torch.equal(model(outcome.images).argmax(dim=1) == labels, torch.arange(COUNT) != 2)
    queries, gradients = (int(outcome.columns[name][0]) for name in ("queries", "gradients"))
    assert attribution_attack_passes(spec, model, {}) == Passes(forward=queries - gradients, gradients=gradients) == Passes(5, 5)


def test_a_map_of_zeros_has_no_cosine_and_leaves_its_image() -> None:
    model, pixels = made(vit, 3.0), images(COUNT)
    model.model.head.weight.data.zero_()  # type: ignore[union-attr]
    found = attribution_attack(model, pixels, LABELS, DRAWS, eps=EPS, steps=2, attribution="gradcam")
    assert bool(found.columns["value_attribution_cosine"].isnan().all())
    assert torch.equal(found.images, pixels)


def test_models_without_such_maps_are_refused() -> None:
    with pytest.raises((HostRefused, ModelError), match="'toy'"):
        attribution_attack(made(swin), images(2), LABELS[:2], DRAWS[torch.arange(2)], eps=EPS, steps=1)
