"""One perturbation for all images, fitted to images of one split and evaluated on another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from robustvit.attacks.fgsm_pgd import clip_to_ball
from robustvit.attacks.losses import log_odds, log_odds_at, untargeted
from robustvit.errors import GradientAbsent
from robustvit.primitives.attack_search import GRADIENTS, Crafted, Loss, Search
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, per_sample, project, steepest
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""

_CITATION = """@inproceedings{moosavi2017universal,
  title={Universal Adversarial Perturbations},
  author={Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Fawzi, Omar and Frossard, Pascal},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2017}
}
@inproceedings{shafahi2020universal,
  title={Universal Adversarial Training},
  author={Shafahi, Ali and Najibi, Mahyar and Xu, Zheng and Dickerson, John and Davis, Larry S. and Goldstein, Tom},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2020}
}"""
_ROWS = 64  # images whose gradients are averaged at a step
_ABSENT = 0.01  # largest share of samples without a gradient that a fit accepts


@attack(
    severity="eps", family="universal", fit="fit_perturbation", url="https://arxiv.org/abs/1610.08401", citation=_CITATION,
    source="Moosavi-Dezfooli et al. 2017; fitted by ascent on a clipped loss as in Shafahi et al. 2020",
    rules="Fitted to images of another split, never to those that it is evaluated on, unless a suite names the same data twice.",
    passes="fit_passes", version=2,
)  # fmt: skip
def uap(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, eps: Radius, train: Data, norm: Norm = "linf", samples: Count = 1000, epochs: Count = 10,
    step: Radius | None = None, clip: Radius = 9.0,
) -> Crafted:  # fmt: skip
    """Universal adversarial perturbation (Moosavi-Dezfooli et al. 2017): the same change to every image, clipped to [0, 1].

    eps: radius in pixel units; write 10/255. train: the data it is fitted to. samples: how many of them, the first in evaluation order.
    epochs: passes over them. step: step size, default eps/5, decaying to a hundredth of it along a cosine. clip: a sample's cross-entropy
    counts only up to this, so that a few images do not dominate. Fitted once for all images; each costs one query here. Differs from
    Moosavi-Dezfooli et al., who add up minimal perturbations of single images, as Shafahi et al. do: ascent on the clipped loss of batches.
    Differs from both: the loss is the log odds, clipped where the cross-entropy reaches `clip`. Every sample that counts weighs alike,
    where the mean cross-entropy weighs each by 1 − p(label) and loses those that the model is sure of.
    """
    search = Search(model, images, labels, draws)
    rows = search.active
    moved = clip_to_ball(images, artifact["perturbation"].to(images).expand_as(images), eps, norm)
    search.query(rows, moved)
    search.keep_best(rows, moved)
    return search.outcome()


def fit_perturbation(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, eps: float, train: Data, norm: Norm, samples: int, epochs: int, step: float | None, clip: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The perturbation (1, 3, H, W): projected ascent on the mean clipped log odds of batches, in an order drawn for each epoch."""
    most = log_odds_at(clip)

    def gradient(batch: Batch, delta: Tensor, draws: Draws) -> MeanGradient:
        moved = (batch.images + delta).clamp(0.0, 1.0)
        gradients, absent = clipped_gradients(model, batch, moved, untargeted(log_odds, batch.labels), most, draws)
        return MeanGradient(gradients.mean(dim=0, keepdim=True), absent)

    def stepped(delta: Tensor, gradient: Tensor, decay: float) -> Tensor:
        return project(delta + (step or eps / 5) * decay * steepest(gradient, norm), eps, norm)

    start = torch.zeros(1, model.channels, *model.size, device=model.device)
    chosen = order(train.ids)[:samples]
    return {"perturbation": ascend("uap", model, start, lambda at: load_batch(train, at), chosen, epochs, draws, gradient, stepped)}


class MeanGradient(NamedTuple):
    """The mean gradient of a batch, and the number of its samples whose gradient is zero, although their loss counts, or not finite."""

    gradient: Tensor
    absent: int


def ascend(
    name: str, model: Classifier, value: Tensor, load: Callable[[np.ndarray], Batch], chosen: np.ndarray, epochs: int, draws: Draws,
    gradient: Callable[[Batch, Tensor, Draws], MeanGradient], stepped: Callable[[Tensor, Tensor, float], Tensor],
) -> Tensor:  # fmt: skip
    """Gradient ascent on a tensor that all images share, over batches of the samples at the positions `chosen`.

    The order is drawn for each epoch. gradient: of a batch at a value, with draws of the batch's samples. stepped: the value after a step
    along a gradient, given the decay of the step size, from 1 to 0.01 along a cosine. Raises GradientAbsent, naming the attack, where more
    than 1 % of the gradients are zero, missing or not finite.
    """
    turns, turn, absent = epochs * -(-len(chosen) // _ROWS), 0, 0
    for epoch in range(epochs):
        shuffled = chosen[draws.at(epoch).permutation(len(chosen))[0].cpu().numpy()]
        for start in range(0, len(shuffled), _ROWS):
            batch = load(shuffled[start : start + _ROWS])
            found = gradient(batch, value, Draws(draws.seed, draws.at(turn).stream, batch.ids, model.device))
            value = stepped(value, found.gradient, decay(turn, turns))
            absent, turn = absent + found.absent, turn + 1
        _refuse_absent(name, absent, len(chosen) * (epoch + 1), model)
    return value


def decay(turn: int, turns: int) -> float:
    """The factor on the size of a step, counted from 0, of so many: from 1 to 0.01 along a cosine."""
    return 0.01 + 0.99 * (1.0 + float(np.cos(np.pi * turn / turns))) / 2.0


def clipped_gradients(model: Classifier, batch: Batch, moved: Tensor, loss: Loss, clip: float, draws: Draws) -> tuple[Tensor, int]:
    """The gradients of each sample's loss at the pixels `moved`, and how many are zero or not finite.

    Where the loss reaches `clip` the gradient is zero, which does not count.
    """
    search = Search(model, batch.images, batch.labels, draws)
    evaluation = search.query_gradient(torch.arange(len(batch), device=model.device), moved, loss)
    counted = evaluation.loss < clip
    broken = search.outcome().columns["gradient"] == GRADIENTS.index("not finite")
    absent = int((broken | counted & (evaluation.gradient.flatten(1) == 0).all(dim=1)).sum())
    return torch.where(per_sample(counted, evaluation.gradient), evaluation.gradient, 0.0), absent


def _refuse_absent(name: str, absent: int, total: int, model: Classifier) -> None:
    if absent > _ABSENT * total:
        raise GradientAbsent(
            f"attack '{name}': model '{model.card.label}' gives an input gradient that is zero, missing or not finite for {absent} of "
            f"{total} samples that it is fitted to. Fit it to the model that this one was made of, and evaluate this one on the images."
        )


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; the fit takes a gradient for each of its samples in every epoch."""
    return Passes(fit=product_of(spec, "epochs") * min(product_of(spec, "samples"), len(plugins["train"])))
