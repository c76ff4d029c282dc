"""What attacks on features share: ascent on a function of features from a start in the ball, for each image or for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustvit.attacks.fgsm_pgd import clip_to_ball
from robustvit.attacks.universal import LoadBatch, MeanGradient, ascend
from robustvit.primitives.attack_search import GRADIENTS, Crafted, Search
from robustvit.primitives.batch import NO_CLASS, Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, blocks_of
from robustvit.primitives.norms import bounds, random_start
from robustvit.spec.sample_order import order

Start = Literal["image", "uniform", "normal"]
"""Where an attack starts: at the image, at a point drawn uniformly in the ball, or at normal noise that is clipped to it."""

FeatureLoss = Callable[[Tensor, Tensor], Tensor]
"""Features (n, K) and those of the clean images (n, K) → (n,) losses, which the attack maximises."""


class Schedule(NamedTuple):
    """The linf ball of an attack, its number of steps, the size of a step, and where it starts."""

    eps: float
    steps: int
    step: float
    start: Start


def feature_ascent(
    features: BlockFeatures, images: Tensor, labels: Tensor, draws: Draws, schedule: Schedule, loss: FeatureLoss, *, clean: bool = True
) -> Crafted:  # fmt: skip
    """Signed gradient ascent on a function of features, in the linf ball; every image takes all steps and its last iterate is returned.

    labels are not read. clean: whether the loss compares with the features of the clean images, which cost one query each. Every step costs
    a query and a gradient; the last iterate is not queried.
    """
    search = Search(features, images, labels, draws, labelled=False)
    rows, (low, high) = search.active, bounds(images, schedule.eps)
    known = search.query(rows, images) if clean else _nothing(images)
    iterate = _started(images, draws, schedule)
    for _ in range(schedule.steps):
        gradient = search.query_gradient(rows, iterate, lambda found, rows: loss(found, known[rows]), candidates=False).gradient
        iterate = torch.clamp(iterate.add(gradient.sign(), alpha=schedule.step), low, high)
    search.keep_best(rows, iterate)
    return search.outcome()


def _started(images: Tensor, draws: Draws, schedule: Schedule) -> Tensor:
    if schedule.start == "image":
        return images.clone()
    if schedule.start == "uniform":
        return clip_to_ball(images, random_start(images, schedule.eps, "linf", draws), schedule.eps, "linf")
    low, high = bounds(images, schedule.eps)
    return torch.clamp(draws.normal(*images.shape[1:]).to(images), low, high)


def perturbed(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, perturbation: Tensor, eps: float) -> Crafted:
    """The images with one perturbation (1, 3, H, W) on all of them, clipped to [0, 1]; the model is not queried."""
    search = Search(model, images, labels, draws, labelled=False)
    search.keep_best(search.active, clip_to_ball(images, perturbation.to(images).expand_as(images), eps, "linf"))
    return search.outcome()


class UniversalSchedule(NamedTuple):
    """Of a perturbation for all images: its linf ball, how many samples it is fitted to, passes over them, and the first step size."""

    eps: float
    samples: int
    epochs: int
    step: float

    def stepped(self, delta: Tensor, gradient: Tensor, decay: float) -> Tensor:
        """The perturbation after a signed step of `decay` times the first one's size, in the ball."""
        return (delta + self.step * decay * gradient.sign()).clamp(-self.eps, self.eps)


def universal_ascent(
    name: str, features: BlockFeatures, load_batch: LoadBatch, draws: Draws, train: Data, schedule: UniversalSchedule, loss: FeatureLoss,
    *, clean: bool = False, noise: Callable[[Batch, Draws], NoiseTerm] | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The perturbation (1, 3, H, W) from a uniform start: signed ascent on the mean loss of batches, in an order drawn for each epoch.

    The gradient is that of the pixels that the model sees, clipped to [0, 1]. clean: whether the loss compares with the features of the
    clean images. noise: of a batch and its draws, images that the perturbation is added to as well, and the weight of the batch beside
    them. Raises GradientAbsent as `ascend` does.
    """

    def gradient(batch: Batch, delta: Tensor, draws: Draws) -> MeanGradient:
        own = mean_gradient(features, batch.images, delta, draws, loss, clean=clean)
        if noise is None:
            return own
        extra = noise(batch, draws)
        added = mean_gradient(features, extra.images, delta, extra.draws, loss)
        return MeanGradient(extra.weight * own.gradient + added.gradient, own.absent)

    chosen = order(train.ids)[: schedule.samples]
    start = uniform_perturbation(features, draws, schedule.eps)
    found = ascend(name, features, start, lambda at: load_batch(train, at), chosen, schedule.epochs, draws, gradient, schedule.stepped)
    return {"perturbation": found}


class NoiseTerm(NamedTuple):
    """Images of noise with draws of their own, and the weight of the loss of real images beside theirs."""

    images: Tensor
    draws: Draws
    weight: float


def uniform_perturbation(model: Classifier, draws: Draws, eps: float) -> Tensor:
    """(1, 3, H, W): a start for a perturbation of all images, uniform in the ball."""
    return draws.at("start").uniform(model.channels, *model.size, low=-eps, high=eps)[:1].to(model.device)


def mean_gradient(
    features: BlockFeatures, images: Tensor, delta: Tensor, draws: Draws, loss: FeatureLoss, *, clean: bool = False
) -> MeanGradient:  # fmt: skip
    """The mean over images of the gradient of a loss at their pixels with `delta`, (1, 3, H, W), and how many have none.

    clean: whether the loss compares with the features of the images without it.
    """
    search = Search(features, images, _no_labels(images), draws, labelled=False)
    rows = search.active
    known = search.query(rows, images) if clean else _nothing(images)
    moved = (images + delta).clamp(0.0, 1.0)
    found = search.query_gradient(rows, moved, lambda made, rows: loss(made, known[rows]), candidates=False).gradient
    codes = search.outcome().columns["gradient"]
    absent = sum(int((codes == GRADIENTS.index(name)).sum()) for name in ("absent", "not finite"))
    return MeanGradient(found.mean(dim=0, keepdim=True), absent)


def _nothing(images: Tensor) -> Tensor:
    """In the place of clean features that no loss reads, (N, 1)."""
    return images.new_zeros(len(images), 1)


def _no_labels(images: Tensor) -> Tensor:
    return torch.full((len(images),), NO_CLASS, device=images.device)


def middle(model: Classifier, layer: int | None) -> int:
    """The block named, or the last of the first half."""
    return max(0, len(blocks_of(model)) // 2 - 1) if layer is None else layer


def batches(data: Data, load_batch: LoadBatch, samples: int, rows: int) -> list[Batch]:
    """The first samples of data in evaluation order, as batches of at most so many rows."""
    chosen = order(data.ids)[:samples]
    return [load_batch(data, part) for part in np.split(chosen, range(rows, len(chosen), rows))]
