"""One perturbation for all images: learned from some, judged on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from robustvit.attacks.fgsm_pgd import inside
from robustvit.attacks.losses import cross_entropy
from robustvit.errors import GradientAbsent
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, per_sample, project, steepest
from robustvit.spec.registry import attack
from robustvit.spec.sample_order import order

Radius = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]
Look = Callable[[Data, np.ndarray], Batch]

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


@attack(
    severity="eps", family="universal", fit="learn", url="https://arxiv.org/abs/1610.08401", citation=_CITATION,
    source="Moosavi-Dezfooli et al. 2017; learned by ascent on a clipped loss as in Shafahi et al. 2020",
    rules="Learned from images of another split, never from those that it is judged on, unless a suite names the same data twice.",
)  # fmt: skip
def uap(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, learned: Mapping[str, Tensor],
    *, eps: Radius, train: Data, norm: Norm = "linf", samples: Count = 1000, epochs: Count = 10, step: Radius | None = None, clip: Radius = 9.0,
) -> Crafted:  # fmt: skip
    """Universal adversarial perturbation: the same change to every image, cut to [0, 1].

    eps: radius in pixel units; write 10/255. train: the data it is learned from. samples: how many of them, the first in evaluation order. epochs: passes
    over them. step: size of a step, default eps/5, shrinking to a hundredth of it along a cosine. clip: a sample's cross-entropy counts only up to
    this, so that few images cannot take all the effort. It is learned once and the same for all images; each costs one query here.
    """
    search = Search(model, images, labels, draws)
    rows = search.standing
    moved = inside(images, learned["perturbation"].to(images).expand_as(images), eps, norm)
    search.look(rows, moved)
    search.leave(rows, moved)
    return search.outcome()


def learn(
    model: Classifier, look: Look, draws: Draws,
    *, eps: float, train: Data, norm: Norm, samples: int, epochs: int, step: float | None, clip: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The perturbation (1, 3, H, W): projected ascent on the mean clipped cross-entropy of batches, in an order that each epoch draws."""
    chosen = order(train.ids)[:samples]
    delta = torch.zeros(1, 3, *model.size, device=model.device)
    turns = epochs * -(-len(chosen) // _ROWS)
    turn = flat = 0
    for epoch in range(epochs):
        shuffled = chosen[draws.at(epoch).permutation(len(chosen))[0].cpu().numpy()]
        for start in range(0, len(shuffled), _ROWS):
            gradient, absent = _slope(model, look(train, shuffled[start : start + _ROWS]), delta, clip, draws.at(turn))
            flat += absent
            delta = project(delta + pace(step or eps / 5, turn, turns) * steepest(gradient, norm), eps, norm)
            turn += 1
        refuse_flat("uap", flat, len(chosen) * (epoch + 1), model)
    return {"perturbation": delta}


def _slope(model: Classifier, batch: Batch, delta: Tensor, clip: float, draws: Draws) -> tuple[Tensor, int]:
    """The mean gradient of a batch, (1, 3, H, W), and of how many of its samples it is zero although their loss is not clipped."""
    keyed = Draws(draws.seed, draws.stream, batch.ids, model.device)
    search = Search(model.bound(keyed), batch.images, batch.labels, keyed)
    moved = (batch.images + delta).clamp(0.0, 1.0)
    seen = search.climb(
        torch.arange(len(batch), device=model.device), moved, lambda logits, rows: cross_entropy(logits, batch.labels[rows])
    )
    counted = seen.loss < clip
    absent = int((counted & (seen.gradient.flatten(1) == 0).all(dim=1)).sum())
    return (seen.gradient * per_sample(counted, seen.gradient)).mean(dim=0, keepdim=True), absent


def pace(step: float, turn: int, turns: int) -> float:
    """The size of a step: from `step` to a hundredth of it along a cosine."""
    return step * (0.01 + 0.99 * (1.0 + float(np.cos(np.pi * turn / turns))) / 2.0)


def refuse_flat(name: str, absent: int, asked: int, model: Classifier) -> None:
    """Raises GradientAbsent where the gradient was zero or missing for more than one in a hundred of those asked for."""
    if absent > 0.01 * asked:
        raise GradientAbsent(
            f"attack '{name}': model '{model.card.label}' gives an input gradient that is zero or missing for {absent} of {asked} samples that it was "
            "to learn from. Learn on the model that it was made of and judge the images on this one."
        )
