"""Adversarial training: closed forms of linear models, formulas by hand, limits, and gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.adversarial.mart import boosted_cross_entropy, weighted_divergence
from robustvit.defenses.adversarial.trades import divergence_of
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.defense import compose
from robustvit.primitives.draws import Draws

EPS = 8 / 255


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))


def smooth(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 4)).double()


def batch(classes: int = 2, count: int = 6, low: float = 0.2, high: float = 0.8) -> Batch:
    images = low + (high - low) * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.arange(count) % classes, tuple(map(str, range(count))))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 5, given.ids)


def crafted(defense, model: nn.Module, given: Batch) -> Tensor:
    found = defense.craft_for(model, given, draws(given)).crafted
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["pgd_at", "mart"])
def test_a_linear_model_of_two_classes_is_attacked_at_the_corner_of_the_ball(name: str) -> None:
    model, given = linear(), batch()
    weights = model[1].weight.detach().view(2, 3, 4, 4)
    toward = (weights[1 - given.labels] - weights[given.labels]).sign()
    found = crafted(rv.load_defense(name, eps="8/255", steps=4, step="4/255"), model, given)
    assert torch.allclose(found, given.images + EPS * toward, atol=1e-6)
    margins = [logits[range(6), given.labels] - logits[range(6), 1 - given.labels] for logits in (model(given.images), model(found))]
    fall = EPS * (weights[1] - weights[0]).abs().sum()
    assert torch.allclose(margins[0] - margins[1], fall.expand(6), atol=1e-5)


def test_in_l2_a_linear_model_is_attacked_along_its_weights() -> None:
    model, given = linear(), batch()
    weights = model[1].weight.detach().view(2, 3, 4, 4)
    toward = weights[1 - given.labels] - weights[given.labels]
    unit = toward / toward.flatten(1).norm(dim=1)[:, None, None, None]
    found = crafted(rv.load_defense("pgd_at", eps=0.1, norm="l2", steps=5, start="none"), model, given)
    assert torch.allclose(found, given.images + 0.1 * unit, atol=1e-6)


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_stay_in_the_ball_and_in_the_range_of_pixels(name: str, norm: str) -> None:
    given = batch(low=0.0, high=1.0)
    found = crafted(rv.load_defense(name, eps=0.3, norm=norm, steps=7), linear(), given)
    sizes = (found - given.images).flatten(1)
    length = sizes.abs().amax(dim=1) if norm == "linf" else sizes.norm(dim=1)
    assert float(length.max()) <= 0.3 + 1e-6
    assert (float(found.min()), float(found.max())) >= (0.0, 0.0)
    assert float(found.max()) <= 1.0
    assert float(length.max()) > 0.15


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart"])
def test_the_radius_rises_over_the_epochs_of_warmup(name: str) -> None:
    given, defense = batch(), rv.load_defense(name, eps="8/255", steps=3, warmup=4)
    found = [crafted(defense, linear(), given.at(TrainingStep(step, 20, 10))) for step in (0, 2, 4, 8, 16)]
    assert [float((one - given.images).abs().max()) for one in found] == pytest.approx([0.0, EPS / 4, EPS / 2, EPS, EPS], abs=1e-6)


def test_ascent_is_that_of_the_loss_step_by_step() -> None:
    model, given = smooth().float(), batch(4)
    noise = given.images + 0.001 * draws(given).at("craft").normal(3, 4, 4)
    expected = noise.clone()
    for _ in range(3):
        leaf = expected.clone().requires_grad_(True)
        p, q = model(given.images).softmax(dim=1).detach(), model(leaf).softmax(dim=1)
        (gradient,) = torch.autograd.grad((p * (p.log() - q.log())).sum(), leaf)
        moved = expected + 0.01 * gradient.sign()
        expected = torch.minimum(torch.maximum(moved, given.images - 0.02), given.images + 0.02).clamp(0, 1)
    found = crafted(rv.load_defense("trades", eps=0.02, step=0.01, steps=3), model, given)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_divergence_of_trades_is_from_the_prediction_of_the_image() -> None:
    natural, adversarial = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert float(divergence_of(natural, adversarial)) == pytest.approx(0.3681, abs=5e-5)
    assert float(divergence_of(adversarial, natural)) == pytest.approx(0.5108, abs=5e-5)


def test_trades_is_cross_entropy_and_beta_times_the_divergence() -> None:
    model, given = smooth().float(), batch(4)
    defense = rv.load_defense("trades", eps=0.1, beta=3.0)
    shown = given.with_crafted(given.images + 0.05)
    p, q = model(given.images).softmax(dim=1), model(shown.images + 0.05).softmax(dim=1)
    expected = -p[range(6), given.labels].log().mean() + 3.0 * (p * (p.log() - q.log())).sum(dim=1).mean()
    assert torch.allclose(defense.loss(model, shown, draws(given)), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "settings"), [("trades", {"beta": 0.0, "eps": 0.1}), ("pgd_at", {"eps": 0.0}), ("trades", {"eps": 0.0})])
def test_without_its_term_or_radius_it_is_plain_training_to_the_bit(name: str, settings: dict[str, float]) -> None:
    model, given = smooth().float(), batch(4)
    rv.load_defense(name, **settings)(model, given, draws(given)).backward()
    found = [one.grad.clone() for one in model.parameters()]
    model.zero_grad()
    functional.cross_entropy(model(given.images), given.labels).backward()
    same = torch.equal if settings.get("beta") == 0.0 or name == "pgd_at" else lambda one, other: torch.allclose(one, other, atol=1e-7)
    assert all(same(one, two.grad) for one, two in zip(found, model.parameters(), strict=True))


def test_the_boosted_cross_entropy_of_mart_by_hand() -> None:
    q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    labels = torch.tensor([0, 1])
    expected = (-math.log(0.5) - math.log(1 - 0.3) - math.log(0.2) - math.log(1 - 0.7)) / 2
    assert float(boosted_cross_entropy(q.log(), labels)) == pytest.approx(expected, rel=1e-6)
    two = torch.tensor([[0.8, 0.2]])
    assert float(boosted_cross_entropy(two.log(), torch.tensor([0]))) == pytest.approx(-2 * math.log(0.8), rel=1e-6)
    assert math.isfinite(float(boosted_cross_entropy(torch.tensor([[-80.0, 30.0, 0.0]]), torch.tensor([0]))))


def test_the_divergence_of_mart_weighs_by_what_the_label_lacks() -> None:
    p, q = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.5, 0.5], [0.6, 0.4]])
    labels = torch.tensor([0, 0])
    each = (p * (p.log() - q.log())).sum(dim=1)
    expected = (each * torch.tensor([0.1, 0.8])).mean()
    assert torch.allclose(weighted_divergence(p.log(), q.log(), labels), expected, atol=1e-7)
    sure = torch.tensor([[60.0, 0.0]])
    assert float(weighted_divergence(sure, torch.tensor([[0.0, 1.0]]), torch.tensor([0]))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["trades", "mart"])
def test_gradients_by_finite_differences(name: str) -> None:
    model, given = smooth(), batch(4)
    shown = Batch(given.images.double(), given.labels, given.ids).with_crafted(given.images.double() + 0.03)
    defense = rv.load_defense(name, eps=0.1, beta=2.0)

    def loss_of(weight: Tensor) -> Tensor:
        made = lambda images: functional.linear((functional.linear(images.flatten(1), weight, model[1].bias)).tanh(), model[3].weight)  # noqa: E731
        return defense.loss(made, shown, draws(given))

    assert torch.autograd.gradcheck(loss_of, (model[1].weight.detach()[:, :].clone().requires_grad_(True),), atol=1e-6)


def test_awp_takes_its_step_at_weights_that_are_worse_by_a_share_of_each_tensor() -> None:
    model, given = smooth().float(), batch(4)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    seen: list[dict[str, Tensor]] = []
    losses: list[float] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(given.images), given.labels)
        loss.backward()
        seen.append({name: one.detach().clone() for name, one in model.named_parameters()})
        losses.append(float(loss.detach()))
        return loss.detach()

    rv.load_defense("awp", gamma=0.01).step(closure, optimizer)
    assert len(seen) == 2
    model.zero_grad()
    functional.cross_entropy(model(given.images), given.labels).backward()
    for name, one in model.named_parameters():
        moved = seen[1][name] - before[name]
        expected = 0.01 * before[name].norm() * one.grad / one.grad.norm() if one.dim() > 1 else torch.zeros_like(one)
        assert torch.allclose(moved, expected, atol=1e-6), name
        assert torch.allclose(one, before[name], atol=1e-6), "the perturbation is taken back"
    assert losses[1] > losses[0]


def test_sam_steps_along_the_gradient_at_the_worse_point() -> None:
    for adaptive in (False, True):
        model, given = smooth(), batch(4)
        images = given.images.double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def closure(model=model, optimizer=optimizer, images=images, labels=given.labels) -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            return loss.detach()

        weights = [one.detach().clone() for one in model.parameters()]
        gradients = torch.autograd.grad(functional.cross_entropy(model(images), given.labels), list(model.parameters()))
        scales = [one.abs() + 0.01 if adaptive else torch.ones_like(one) for one in weights]
        length = sum(float((scale * one).square().sum()) for scale, one in zip(scales, gradients, strict=True)) ** 0.5
        worse = smooth()
        with torch.no_grad():
            for one, at, gradient, scale in zip(worse.parameters(), weights, gradients, scales, strict=True):
                one.copy_(at + 0.05 * scale**2 * gradient / length)
        there = torch.autograd.grad(functional.cross_entropy(worse(images), given.labels), list(worse.parameters()))
        rv.load_defense("sam", rho=0.05, adaptive=adaptive).step(closure, optimizer)
        for one, at, gradient in zip(model.parameters(), weights, there, strict=True):
            assert torch.allclose(one, at - 0.1 * gradient, atol=1e-12)


@pytest.mark.parametrize(("name", "settings"), [("sam", {"rho": 0.0}), ("awp", {"gamma": 0.0})])
def test_a_radius_of_nothing_is_the_plain_step_to_the_bit(name: str, settings: dict[str, float]) -> None:
    calls: list[int] = []
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> Tensor:
        calls.append(1)
        optimizer.zero_grad()
        loss = model(batch().images).square().sum()
        loss.backward()
        return loss.detach()

    expected = linear()
    plain = torch.optim.SGD(expected.parameters(), lr=0.1)
    expected(batch().images).square().sum().backward()
    plain.step()
    rv.load_defense(name, **settings).step(closure, optimizer)
    assert calls == [1]
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), expected.parameters(), strict=True))


def test_gaussian_noise_is_each_images_own_and_is_not_clipped() -> None:
    given = batch(count=200, low=0.0, high=1.0)
    noise = rv.load_defense("gaussian", sigma=0.25).batch(given, draws(given)).images - given.images
    assert float(noise.std()) == pytest.approx(0.25, rel=0.02)
    assert float((noise + given.images).min()) < 0
    assert not torch.equal(noise[0], noise[1])
    assert rv.load_defense("gaussian", sigma=0).batch(given, draws(given)) is given


def test_what_goes_together_and_what_does_not() -> None:
    pgd, trades, awp, sam = (rv.load_defense(name, **more) for name, more in (
        ("pgd_at", {"eps": 0.1}), ("trades", {"eps": 0.1}), ("awp", {}), ("sam", {}),
    ))  # fmt: skip
    assert compose([trades, awp]).name == "trades+awp"
    with pytest.raises(BadParameter, match="'pgd_at' and 'trades' both set the craft"):
        compose([pgd, trades])
    with pytest.raises(BadParameter, match="'awp' and 'sam' both set the step"):
        compose([awp, sam])


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart"])
def test_a_radius_in_levels_is_refused(name: str) -> None:
    with pytest.raises(BadParameter, match=f"defense '{name}': eps is 8 in linf, where pixels are in .*; write 8/255"):
        rv.load_defense(name, eps=8)
    rv.load_defense(name, eps=3, norm="l2")


def test_ablations_are_of_adversarial_images_and_soft_labels_where_there_are_any() -> None:
    given = batch()
    defense, model = rv.load_defense("ablations", width=2, unseen="kept"), linear()
    moved = defense.loss(model, given.with_crafted(given.images * 0.5), draws(given))
    assert torch.equal(moved, defense.loss(model, given.with_images(given.images * 0.5), draws(given)))
    assert not torch.equal(moved, defense.loss(model, given, draws(given)))
    soft = functional.one_hot(1 - given.labels, 2).float()
    flipped = Batch(given.images, 1 - given.labels, given.ids)
    assert torch.allclose(defense.loss(model, given.with_soft_labels(soft), draws(given)), defense.loss(model, flipped, draws(given)))


def test_mart_refuses_soft_labels() -> None:
    given = batch()
    soft = given.with_soft_labels(functional.one_hot(given.labels, 2).float()).with_crafted(given.images)
    with pytest.raises(BadParameter, match="'mart' weighs images by their label"):
        rv.load_defense("mart", eps=0.1).loss(linear(), soft, draws(given))
