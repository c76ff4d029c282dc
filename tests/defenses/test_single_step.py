"""Adversarial training in a single step, for free, with any attack, and against universal patches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense, compose
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card
from robustvit.primitives.training.collapse import collapse
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

EPS = 8 / 255


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 4))


def batch(classes: int = 4, count: int = 6, first: int = 0, low: float = 0.2, high: float = 0.8) -> Batch:
    images = low + (high - low) * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(first))
    return Batch(images, torch.arange(count) % classes, tuple(str(first + row) for row in range(count)))


def draws(given: Batch, step: int = 5) -> Draws:
    return Draws.for_step(0, step, given.ids)


def crafted(defense: Defense, model: nn.Module, given: Batch) -> Tensor:
    found = defense.craft_for(model, given, draws(given)).crafted
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "noise", "step", "inside"), [("fast_at", 1, 1.25, True), ("nfgsm", 2, 1, False)])
def test_a_single_step_by_hand(name: str, noise: float, step: float, inside: bool) -> None:
    model, given = network(), batch(low=0.0, high=1.0)
    start = (given.images + noise * EPS * (2 * draws(given).at("craft").uniform(3, 4, 4) - 1)).clamp(0, 1)
    leaf = start.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(functional.cross_entropy(model(leaf), given.labels), leaf)
    delta = start - given.images + step * EPS * gradient.sign()
    expected = (given.images + (delta.clamp(-EPS, EPS) if inside else delta)).clamp(0, 1)
    assert torch.allclose(crafted(rv.load_defense(name, eps="8/255"), model, given), expected, atol=1e-6)


@pytest.mark.parametrize(("step", "size", "at_bound"), [(1.0, 0.817, 0.5), (1.25, 0.888, 0.625), (2.0, 1.0, 1.0)])
def test_the_size_of_perturbations_follows_from_the_step(step: float, size: float, at_bound: float) -> None:
    """Of u + step · sign with u uniform in ±1, clipped to ±1, in units of eps."""
    given = batch(2, count=400, low=0.4, high=0.6)
    delta = (crafted(rv.load_defense("fast_at", eps=0.1, step=0.1 * step), linear(), given) - given.images) / 0.1
    assert float(delta.square().mean().sqrt()) == pytest.approx(size, abs=0.01)
    assert float((delta.abs() > 1 - 1e-4).float().mean()) == pytest.approx(at_bound, abs=0.02)


def test_nfgsm_leaves_the_ball_by_no_more_than_its_noise() -> None:
    given = batch(2, count=400, low=0.4, high=0.6)
    delta = (crafted(rv.load_defense("nfgsm", eps=0.1), linear(), given) - given.images) / 0.1
    assert float(delta.abs().max()) == pytest.approx(3.0, abs=0.01)
    assert float(delta.square().mean().sqrt()) == pytest.approx(math.sqrt(4 / 3 + 1), abs=0.01)
    wide = batch(2, count=40, low=0.0, high=1.0)
    found = crafted(rv.load_defense("nfgsm", eps=0.5), linear(), wide)
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["fast_at", "nfgsm"])
def test_the_radius_rises_and_a_radius_of_zero_is_plain_training_to_the_bit(name: str) -> None:
    given, model = batch(), network()
    defense = rv.load_defense(name, eps="8/255", warmup=4)
    sizes = [float((crafted(defense, model, given.at(TrainingStep(step, 20, 10))) - given.images).abs().max()) for step in (0, 4, 8)]
    assert sizes[0] == 0.0
    assert sizes[1] == pytest.approx(sizes[2] / 2, rel=0.1)
    none = rv.load_defense(name, eps=0)
    assert torch.equal(none(model, given, draws(given)), functional.cross_entropy(model(given.images), given.labels))


class Sharp(nn.Module):
    """Right on images as they are, and wrong on any that moved by more than 0.01 where it is `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken, self.slope = False, nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        moved = (images - 0.5).abs().amax(dim=(1, 2, 3), keepdim=True)
        wrong = (moved > 0.01).float() * float(self.broken)
        score = images.flatten(1).sum(dim=1) * 1e-3 * self.slope + 1 - 2 * wrong.flatten()
        return torch.stack((score, -score), dim=1)


def still(count: int) -> Batch:
    return Batch(torch.full((count, 3, 4, 4), 0.5), torch.zeros(count, dtype=torch.int64), tuple(map(str, range(count))))


@pytest.mark.parametrize("name", ["fast_at", "nfgsm"])
def test_a_planted_collapse_is_told_and_a_healthy_run_is_not(name: str) -> None:
    model, given = Sharp(), still(30)
    defense = compose([rv.load_defense(name, eps="8/255"), rv.load_defense("awp")])
    for _ in range(3):
        assert defense.objection(model, given, draws(given)) == ""
    model.broken = True
    assert "fell from 100% to 0% in one epoch. Take a smaller step or eps" in defense.objection(model, given, draws(given))
    assert defense.objection(model, given, draws(given)) == "", "no further fall"
    assert defense.states[name]["accuracy"] == 0.0
    assert model.training
    unchecked = rv.load_defense(name, eps="8/255", check=False)
    assert not unchecked.sets("check")


@pytest.mark.parametrize(("count", "before", "told"), [(10, 0.6, False), (10, 0.7, True), (1000, 0.21, True), (1000, 0.19, False)])
def test_a_fall_is_told_beyond_a_fifth_and_beyond_chance(count: int, before: float, told: bool) -> None:
    """Three deviations 3 √(2 p (1 − p)/n), p = before/2: of 10 images .615 for a fall from .6 to 0, and .640 for one from .7."""
    model, given = Sharp(), still(count)
    model.broken = True
    state = {"accuracy": torch.tensor(before, dtype=torch.float64)}
    assert bool(collapse(model, given, draws(given), EPS, state)) == told


def step_of(defense: Defense, model: nn.Module, given: Batch, parts: int = 1, lr: float = 0.1) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = [defense.loss(model, part, draws(given)) * len(part) / len(given) for part in given.chunks(-(-len(given) // parts))]
        sum(losses).backward()  # type: ignore[union-attr]
        return sum(losses).detach()  # type: ignore[union-attr, return-value]

    defense.step(closure, optimizer)


@pytest.mark.parametrize("parts", [1, 2])
def test_free_training_step_by_step(parts: int) -> None:
    """Two batches, the second shorter, of three replays each; the perturbation goes on."""
    defense, model, expected = rv.load_defense("free_at", eps=0.1, replays=3, step=0.04), network(), network()
    delta = torch.zeros(6, 3, 4, 4)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for given in (batch(first=0), batch(first=100, count=4)):
        step_of(defense, model, given, parts)
        for _ in range(3):
            leaf = delta[: len(given)].clone().requires_grad_(True)
            optimizer.zero_grad()
            functional.cross_entropy(expected((given.images + leaf).clamp(0, 1)), given.labels).backward()
            assert leaf.grad is not None
            delta[: len(given)] = (leaf.detach() + 0.04 * leaf.grad.sign()).clamp(-0.1, 0.1)
            optimizer.step()
    assert torch.equal(defense.state["delta"], delta)
    assert delta.abs().max() == 0.1
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_free_training_of_one_replay_and_no_radius_is_plain_training_to_the_bit() -> None:
    model, expected, given = network(), network(), batch()
    step_of(rv.load_defense("free_at", eps=0, replays=1), model, given)
    step_of(Defense("plain"), expected, given)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), expected.parameters(), strict=True))


def test_free_training_in_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(BadParameter, match="train with it in one process"):
        step_of(rv.load_defense("free_at", eps=0.1), network(), batch())


def test_an_attack_of_a_suite_makes_the_images_of_training() -> None:
    model, given = linear(), batch(2)
    weights = model[1].weight.detach().view(2, 3, 4, 4)  # type: ignore[index, union-attr, operator]
    toward = (weights[1 - given.labels] - weights[given.labels]).sign()
    found = crafted(rv.load_defense("attack_at", attack={"fgsm": {"eps": "8/255"}}), model, given)
    assert torch.allclose(found, given.images + EPS * toward, atol=1e-6)
    other = linear(7)
    weights = other[1].weight.detach().view(2, 3, 4, 4)  # type: ignore[index, union-attr, operator]
    toward = (weights[1 - given.labels] - weights[given.labels]).sign()
    found = crafted(rv.load_defense("attack_at", attack={"fgsm": {"eps": "8/255"}}, surrogate=classifier(other)), model, given)
    assert torch.allclose(found, given.images + EPS * toward, atol=1e-6)


def classifier(model: nn.Module) -> Classifier:
    card = Card("surrogate", Spec("surrogate"), "", "given")
    return Classifier(model, mean=(0.0,) * 3, std=(1.0,) * 3, view=View((4, 4), 4), card=card)


def test_an_attack_that_needs_what_was_learned_before_is_refused_in_one_line() -> None:
    with pytest.raises(BadParameter, match="attack 'universal_patch' learns of other samples before it is used, which a nested one cannot"):
        rv.load_defense("attack_at", attack={"universal_patch": {"train": "digits"}})


def test_universal_patches_ascend_the_loss_of_the_images_that_show_them() -> None:
    model, given = network(), batch(count=40)
    defense = rv.load_defense("universal_patch_at", size=2, patches=3, step=0.1)
    first = crafted(defense, model, given)
    covered = (first != given.images).any(dim=1)
    assert covered.flatten(1).sum(dim=1).tolist() == [4] * 40
    kept = defense.state["patches"].clone()
    second = crafted(defense, model, given)
    chosen = draws(given).at("craft").at("patch").integers(low=0, high=3)
    corners = [(int(one.any(dim=1).nonzero()[0]), int(one.any(dim=0).nonzero()[0])) for one in covered]
    leaf = kept.clone().requires_grad_(True)
    shown = []
    for row, (top, left) in enumerate(corners):
        image = given.images[row].clone()
        image[:, top : top + 2, left : left + 2] = leaf[chosen[row]]
        shown.append(image)
        assert torch.equal(first[row, :, top : top + 2, left : left + 2], kept[chosen[row]])
    functional.cross_entropy(model(torch.stack(shown)), given.labels, reduction="sum").backward()
    assert leaf.grad is not None
    assert torch.allclose(defense.state["patches"], (kept + 0.1 * leaf.grad.sign()).clamp(0, 1), atol=1e-6)
    assert len({*corners}) > 3
    assert not torch.equal(second, first)
