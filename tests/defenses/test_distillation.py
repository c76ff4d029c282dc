"""Distillation: by hand, its limits, tokens, and predictions kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import compose
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card
from robustvit.primitives.training.kept_predictions import spread
from robustvit.primitives.training.on_pixels import OnPixels
from robustvit.spec.spec import Spec
from robustvit.spec.view import View


def network(seed: int, side: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 5))


SEEN: list[int] = []


class Counting(nn.Module):
    """A network that tells of the images it sees, in all its copies."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        SEEN.append(len(images))
        found: Tensor = self.network(images)
        return found


def teacher(model: nn.Module, side: int = 4) -> Classifier:
    card = Card("teacher", Spec("teacher"), "abc", "given")
    return Classifier(model, mean=(0.0,) * 3, std=(1.0,) * 3, view=View((side, side), side), card=card, tile=4)


def batch(step: int = 0) -> Batch:
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(step))
    return Batch(images, torch.arange(6) % 5, tuple(map(str, range(6))), progress=TrainingStep(step, 4, 4))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 5, given.ids)


def loss_of(model: nn.Module, given: Batch, **settings: Any) -> Tensor:
    return rv.load_defense("distillation", **settings)(model, given, draws(given))


def test_soft_and_hard_distillation_by_hand() -> None:
    student, host, given = network(0), network(1), batch()
    s, t = student(given.images), host(given.images)
    plain = -s.log_softmax(dim=1)[range(6), given.labels].mean()
    p, q = (t / 3).softmax(dim=1), (s / 3).softmax(dim=1)
    soft = 9 * (p * (p.log() - q.log())).sum(dim=1).mean()
    hard = -s.log_softmax(dim=1)[range(6), t.argmax(dim=1)].mean()
    assert torch.allclose(loss_of(student, given, teacher=teacher(host), alpha=0.3, temperature=3), 0.7 * plain + 0.3 * soft, atol=1e-5)
    assert torch.allclose(
        loss_of(student, given, teacher=teacher(host), alpha=0.3, temperature=3, kind="hard"), 0.7 * plain + 0.3 * hard, atol=1e-5
    )


def test_its_limits() -> None:
    student, given = network(0), batch()
    plain = functional.cross_entropy(student(given.images), given.labels)
    assert torch.equal(loss_of(student, given, teacher=teacher(network(1)), alpha=0), plain)
    assert float(loss_of(student, given, teacher=teacher(student), alpha=1)) == pytest.approx(0.0, abs=1e-6)


def test_the_teacher_is_not_trained_and_the_student_is() -> None:
    student, host, given = network(0), network(1), batch()
    loss_of(student, given, teacher=teacher(host)).backward()  # type: ignore[no-untyped-call]
    assert all(one.grad is not None for one in student.parameters())
    assert all(one.grad is None for one in host.parameters())


def test_beside_another_loss_it_is_added() -> None:
    student, host, given = network(0), network(1), batch()
    trades = rv.load_defense("trades", eps=0.1, steps=2)
    both = compose([trades, rv.load_defense("distillation", teacher=teacher(host), beside=True, alpha=0.3)])
    p, q = host(given.images).softmax(dim=1), student(trades.craft_for(student, given, draws(given)).shown).softmax(dim=1)
    expected = trades(student, given, draws(given)) + 0.3 * (p * (p.log() - q.log())).sum(dim=1).mean()
    assert torch.allclose(both(student, given, draws(given)), expected, atol=1e-5)


@pytest.mark.parametrize("sees", ["images", "shown"])
def test_the_student_is_shown_adversarial_images_and_the_teacher_those_that_are_asked_for(sees: str) -> None:
    student, host, given = network(0), network(1), batch().with_crafted(batch(1).images)
    q, p = student(given.shown), host(given.images if sees == "images" else given.shown).softmax(dim=1)
    defense = rv.load_defense("distillation", teacher=teacher(host), alpha=1, sees=sees)
    expected = (p * (p.log() - q.log_softmax(dim=1))).sum(dim=1).mean()
    assert torch.allclose(defense.objective(student, given, draws(given)), expected, atol=1e-5)


def test_images_are_resized_to_the_teacher() -> None:
    student, host, given = network(0), network(1, side=8), batch()
    larger = functional.interpolate(given.images, (8, 8), mode="bicubic", antialias=True).clamp(0, 1)
    p, q = host(larger).softmax(dim=1), student(given.images).softmax(dim=1)
    expected = (p * (p.log() - q.log())).sum(dim=1).mean()
    assert torch.allclose(loss_of(student, given, teacher=teacher(host, 8), alpha=1), expected, atol=1e-5)


def test_each_head_of_a_distilled_model_learns_its_own() -> None:
    torch.manual_seed(0)
    vit = timm.create_model(
        "deit_tiny_distilled_patch16_224", img_size=4, patch_size=2, embed_dim=12, depth=1, num_heads=2, num_classes=5
    ).train()  # fmt: skip
    vit.head_dist.bias.data += 1.0 * torch.arange(5)
    given, host = batch(), network(1)
    student = OnPixels(vit, (0.0,) * 3, (1.0,) * 3)
    features = vit.forward_features(given.images)
    first, second = vit.head(features[:, 0]), vit.head_dist(features[:, 1])
    expected = 0.5 * functional.cross_entropy(first, given.labels) + 0.5 * functional.cross_entropy(
        second, host(given.images).argmax(dim=1)
    )
    found = loss_of(student, given, teacher=teacher(host), kind="hard", token=True)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not vit.head._forward_hooks
    with pytest.raises(BadParameter, match="token=true needs a model with a distillation token"):
        loss_of(network(0), given, teacher=teacher(host), token=True)


def test_the_rest_of_the_probability_is_spread_evenly() -> None:
    found = spread(torch.tensor([[3, 0]]), torch.tensor([[0.6, 0.1]]), 5)
    assert torch.allclose(found, torch.tensor([[0.1, 0.1, 0.1, 0.6, 0.1]]))
    assert torch.equal(spread(torch.tensor([[1, 0]]), torch.tensor([[0.7, 0.3]]), 2), torch.tensor([[0.3, 0.7]]))


def test_kept_predictions_take_the_place_of_the_teacher(tmp_path: Path) -> None:
    of, student = teacher(Counting(network(1))), network(0)
    dense = [loss_of(student, batch(step), teacher=of, alpha=1) for step in (0, 1)]
    kept = {"teacher": of, "alpha": 1, "kept": str(tmp_path / "k.sqlite")}
    first = [loss_of(student, batch(step), **kept) for step in (0, 1)]
    again = rv.load_defense("distillation", **kept)
    SEEN.clear()
    second = [again(student, batch(step), draws(batch(step))) for step in (0, 1)]
    assert not SEEN
    assert torch.allclose(torch.stack(first), torch.stack(dense), atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    again(student, batch(2), draws(batch(2)))
    assert SEEN, "an epoch that the file lacks"


def test_predictions_of_other_images_or_another_teacher_are_refused(tmp_path: Path) -> None:
    of, student, given = teacher(network(1)), network(0), batch()
    kept = {"kept": str(tmp_path / "k.sqlite"), "top": 2}
    loss_of(student, given, teacher=of, **kept)
    with pytest.raises(BadParameter, match=r"holds predictions of other images: '0' looks otherwise in epoch 1\. Seed, batch size"):
        loss_of(student, given.with_images(1 - given.images), teacher=of, **kept)
    other = teacher(network(2))
    other.card = Card("other", Spec("other"), "def", "given")
    with pytest.raises(BadParameter, match="holds predictions whose teacher is abc, not def; name another file"):
        loss_of(student, given, teacher=other, **kept)
    with pytest.raises(BadParameter, match="holds predictions whose top is 2, not 3"):
        loss_of(student, given, teacher=of, kept=kept["kept"], top=3)
    (tmp_path / "no").write_text("no database, but text that is long enough to be taken for one" * 20)
    with pytest.raises(BadParameter, match="cannot be read or written"):
        loss_of(student, given, teacher=of, kept=str(tmp_path / "no"))
    with pytest.raises(BadParameter, match="adversarial ones differ in every run"):
        loss_of(student, given, teacher=of, kept=str(tmp_path / "other"), sees="shown")
