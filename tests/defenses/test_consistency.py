"""Consistency training: its loss by hand, its limits, and gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.consistency import inconsistency
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws


class Recorder(nn.Module):
    """A linear model that keeps the images of its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head, self.seen = nn.Linear(48, 3), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.head(images.flatten(1))


def batch(count: int = 6) -> Batch:
    images = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.arange(count) % 3, tuple(map(str, range(count))))


def draws(given: Batch) -> Draws:
    return Draws.for_step(0, 5, given.ids)


def found(given: Batch, **settings: float) -> tuple[Recorder, Tensor]:
    model = Recorder()
    return model, rv.load_defense("consistency", **settings)(model, given, draws(given))


def test_the_divergence_is_from_the_mean_prediction_and_the_entropy_is_its_own() -> None:
    p, q = [0.9, 0.1], [0.4, 0.6]
    mean = [0.65, 0.35]
    divergence = sum(m * math.log(m / one) for probabilities in (p, q) for m, one in zip(mean, probabilities, strict=True)) / 2
    entropy = -sum(m * math.log(m) for m in mean)
    logits = [torch.tensor([one]).log() for one in (p, q)]
    assert float(inconsistency(logits, 1.0, 0.0)) == pytest.approx(divergence, rel=1e-5)
    assert float(inconsistency(logits, 0.0, 1.0)) == pytest.approx(entropy, rel=1e-5)
    crossed = -sum(m * math.log(one) for probabilities in (p, q) for m, one in zip(mean, probabilities, strict=True)) / 2
    assert float(inconsistency(logits, 2.0, 2.0)) == pytest.approx(2 * crossed, rel=1e-5)  # KL + H is the cross-entropy


def test_the_loss_is_of_m_noisy_copies_of_all_images_in_one_pass() -> None:
    given = batch()
    model, loss = found(given, sigma=0.25, lbd=3.0, eta=0.7, m=3)
    (images,) = model.seen
    assert images.shape == (18, 3, 4, 4)
    p = model.head(images.flatten(1)).softmax(dim=1).double().view(3, 6, 3)
    mean = p.mean(dim=0)
    fit = -p[:, range(6), given.labels].log().mean()
    divergence = sum((mean * (mean / one).log()).sum(dim=1).mean() for one in p) / 3
    expected = fit + 3.0 * divergence - 0.7 * (mean * mean.log()).sum(dim=1).mean()
    assert torch.allclose(loss.double(), expected, rtol=1e-5)


def test_noise_is_of_sigma_different_in_every_copy_and_not_clipped() -> None:
    given = batch(400)
    model, _ = found(given, sigma=0.25)
    first, second = (one - given.images for one in model.seen[0].chunk(2))
    assert [float(one.std()) for one in (first, second)] == pytest.approx([0.25, 0.25], rel=0.02)
    assert abs(float((first * second).mean())) < 0.002
    assert float(model.seen[0].min()) < 0


def test_without_its_terms_it_is_gaussian_training_on_copies() -> None:
    given = batch()
    model, loss = found(given, sigma=0.25, lbd=0.0, eta=0.0)
    assert torch.equal(loss, torch.stack([functional.cross_entropy(model(one), given.labels) for one in model.seen[0].chunk(2)]).mean())
    _, one = found(given, sigma=0.25, m=1, eta=0.0)
    _, plain = found(given, sigma=0.25, m=1, lbd=0.0, eta=0.0)
    assert float((one - plain).detach()) == pytest.approx(0.0, abs=1e-6)


def test_without_noise_copies_agree_and_it_is_plain_training() -> None:
    given = batch()
    model, loss = found(given, sigma=0.0, eta=0.0)
    expected = functional.cross_entropy(model.head(given.images.flatten(1)), given.labels)
    assert float((loss - expected).detach()) == pytest.approx(0.0, abs=1e-6)


def test_the_noise_of_an_image_is_its_own_in_any_batch_and_is_added_to_what_is_shown() -> None:
    given, rows = batch(), torch.tensor([4, 1])
    model, _ = found(given, sigma=0.25)
    alone = Recorder()
    rv.load_defense("consistency", sigma=0.25)(alone, given[rows], draws(given)[rows])
    assert torch.equal(alone.seen[0], torch.cat([one[rows] for one in model.seen[0].chunk(2)]))
    moved, _ = found(given.with_crafted(given.images + 1.0), sigma=0.25)
    assert torch.allclose(moved.seen[0] - model.seen[0], torch.ones(1), atol=1e-5)


def test_gradients_flow_through_the_mean_too() -> None:
    views = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *logits: inconsistency(logits, 2.0, 0.5), views)
