"""SmoothAdv and MACER: their formulas by slow references, their limits, and gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.macer import radius_hinge
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.draws import Draws


class Recorder(nn.Module):
    """A small model that keeps the images of its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.seen = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 3)), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach())
        made: Tensor = self.body(images)
        return made


def batch(count: int = 4) -> Batch:
    images = 0.3 + 0.4 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.arange(count) % 3, tuple(map(str, range(count))))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 5, given.ids)


def test_adversarial_images_ascend_the_log_of_the_mean_prediction_step_by_step() -> None:
    model, given = Recorder(), batch()
    made = rv.load_defense("smoothadv", sigma=0.25, eps=0.5, steps=3, m=4).craft_for(model, given, draws(given)).crafted
    noise = model.seen[0].view(4, 4, 3, 4, 4) - given.images
    for row in range(4):
        delta = torch.zeros(3, 4, 4)
        for _ in range(3):
            leaf = delta.clone().requires_grad_(True)
            p = torch.stack([model.body((given.images[row] + leaf + one)[None]).softmax(dim=1)[0] for one in noise[:, row]]).mean(dim=0)
            (gradient,) = torch.autograd.grad(-p[given.labels[row]].log(), leaf)
            delta = delta + 2 * 0.5 / 3 * gradient / gradient.norm()
            delta = delta * min(1.0, 0.5 / float(delta.norm()))
        assert torch.allclose(made[row], (given.images[row] + delta).clamp(0, 1), atol=1e-4)


def test_the_noise_of_all_steps_is_that_of_the_loss_which_is_the_mean_over_copies() -> None:
    model, given, defense = Recorder(), batch(), rv.load_defense("smoothadv", sigma=0.25, eps=0.1, steps=2, m=3)
    made = defense.craft_for(model, given, draws(given))
    loss = defense.objective(model, made, draws(given))
    first, second, last = (one.view(3, 4, 3, 4, 4) for one in model.seen)
    noise = first - given.images
    assert torch.allclose(last - made.crafted, noise, atol=1e-6)
    assert not torch.allclose(second, first, atol=1e-3)
    assert torch.allclose((second - noise)[0], (second - noise)[2], atol=1e-6)
    expected = torch.stack([functional.cross_entropy(model.body(one), given.labels) for one in last]).mean()
    assert torch.allclose(loss, expected)
    noises = batch(300)
    rv.load_defense("smoothadv", sigma=0.25, eps=0.1, m=2).loss(model, noises, draws(noises).at("loss"))
    assert float((model.seen[-1].view(2, 300, 3, 4, 4) - noises.images).std()) == pytest.approx(0.25, rel=0.02)


def test_without_noise_it_is_pgd_in_l2_and_without_radius_gaussian_training() -> None:
    model, given = Recorder(), batch()
    found = rv.load_defense("smoothadv", sigma=0, eps=0.4, steps=4, m=1).craft_for(model, given, draws(given)).crafted
    pgd = rv.load_defense("pgd_at", eps=0.4, norm="l2", steps=4, step=0.2, start="none")
    assert torch.allclose(found, pgd.craft_for(model, given, draws(given)).crafted, atol=1e-6)
    assert torch.equal(rv.load_defense("smoothadv", sigma=0.25, eps=0).craft_for(model, given, draws(given)).crafted, given.images)


def test_the_radius_of_smoothadv_rises_over_ten_epochs() -> None:
    given, defense = batch(), rv.load_defense("smoothadv", sigma=0.1, eps=0.4, steps=2)
    lengths = []
    for step in (0, 5, 10, 15):
        made = defense.craft_for(Recorder(), given.at(TrainingStep(step, 20, 20)), draws(given)).crafted
        lengths.append(float((made - given.images).flatten(1).norm(dim=1).max()))
    assert lengths == pytest.approx([0.0, 0.2, 0.4, 0.4], abs=1e-4)


def test_the_hinge_on_the_radius_by_hand() -> None:
    logits = torch.tensor([[[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [2.0, 0.0, 0.0]], [[0.4, 0.6, 0.0], [0.5, 0.6, 0.1], [1.0, 0.0, 0.0]]])
    labels, total = torch.tensor([0, 0, 0]), 0.0  # the second is not classified correctly
    for row in range(3):
        p = sum((2.0 * one[row].double()).softmax(dim=0) for one in logits) / 2
        second, first = sorted(p.tolist())[-2:]
        margin = norm.ppf(first) - norm.ppf(second)
        total += 0.25 / 2 * (3.0 - margin) if int(p.argmax()) == 0 and margin <= 3.0 else 0.0
    assert total > 0
    assert float(radius_hinge(logits, labels, 0.25, 2.0, 3.0)) == pytest.approx(total / 3, rel=1e-4)


def test_samples_beyond_gamma_and_those_of_infinite_margin_count_nothing() -> None:
    logits = torch.tensor([[[200.0, 0.0], [2.0, 0.0]]], requires_grad=True)
    hinge = radius_hinge(logits, torch.tensor([0, 0]), 0.25, 1.0, 8.0)
    hinge.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0].tolist() == [0.0, 0.0]
    assert logits.grad[0, 1, 0] < 0
    assert float(radius_hinge(logits.detach(), torch.tensor([0, 0]), 0.25, 1.0, 1.0)) == 0.0


def test_macer_is_the_likelihood_of_the_mean_prediction_and_lbd_times_the_hinge() -> None:
    model, given = Recorder(), batch(12)
    found = [rv.load_defense("macer", sigma=0.25, lbd=lbd, m=5, beta=2.0)(model, given, draws(given)) for lbd in (0.0, 3.0)]
    logits = model.body(model.seen[0]).view(5, 12, 3)
    assert torch.equal(model.seen[0], model.seen[1])
    likelihood = -logits.softmax(dim=2).mean(dim=0)[range(12), given.labels].log().mean()
    assert torch.allclose(found[0], likelihood, atol=1e-6)
    assert float(radius_hinge(logits, given.labels, 0.25, 2.0, 8.0)) > 0
    assert torch.allclose(found[1] - found[0], 3.0 * radius_hinge(logits, given.labels, 0.25, 2.0, 8.0), atol=1e-6)
    noise = model.seen[0].view(5, 12, 3, 4, 4) - given.images
    assert float(noise.std()) == pytest.approx(0.25, rel=0.05)
    assert not torch.equal(noise[0], noise[1])


def test_gradients_of_the_hinge_by_finite_differences() -> None:
    base = torch.tensor([[[1.0, 0.2, 0.0], [0.0, 1.0, 0.0]], [[0.4, 0.6, 0.0], [0.5, 0.6, 0.1]]], requires_grad=True)
    labels = torch.tensor([0, 1])
    (found,) = torch.autograd.grad(radius_hinge(base, labels, 0.25, 2.0, 8.0), base)
    for place in range(12):
        move = torch.zeros(12).index_fill(0, torch.tensor([place]), 1e-2).view_as(base)
        up, down = (float(radius_hinge((base + sign * move).detach(), labels, 0.25, 2.0, 8.0)) for sign in (1, -1))
        assert float(found.flatten()[place]) == pytest.approx((up - down) / 2e-2, abs=2e-4)


def test_macer_refuses_soft_labels() -> None:
    given = batch()
    with pytest.raises(BadParameter, match="'macer' needs the label"):
        rv.load_defense("macer", sigma=0.25)(Recorder(), given.with_soft_labels(torch.full((4, 3), 1 / 3)), draws(given))
    assert math.isfinite(float(rv.load_defense("macer", sigma=0.25)(Recorder(), given, draws(given)).detach()))
