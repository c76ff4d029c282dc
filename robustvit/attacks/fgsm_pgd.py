"""Attacks that follow the input gradient of the cross-entropy: FGSM and PGD."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from robustvit.attacks.losses import cross_entropy
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, bounds, project, random_start, steepest
from robustvit.spec.registry import attack

Radius = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]

_FGSM = """@inproceedings{goodfellow2015explaining,
  title={Explaining and Harnessing Adversarial Examples},
  author={Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian},
  booktitle={International Conference on Learning Representations},
  year={2015}
}"""
_PGD = """@inproceedings{madry2018towards,
  title={Towards Deep Learning Models Resistant to Adversarial Attacks},
  author={Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian},
  booktitle={International Conference on Learning Representations},
  year={2018}
}"""


@attack(severity="eps", family="white-box", source="Goodfellow et al. 2015", url="https://arxiv.org/abs/1412.6572", citation=_FGSM)
def fgsm(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, eps: Radius, norm: Norm = "linf") -> Crafted:
    """One step of size eps along the steepest ascent of the cross-entropy (FGSM; in l2 the normalised gradient).

    eps: radius in pixel units; write 4/255. Returns images in [0, 1] inside the ball. Deterministic: no random start.
    """
    search = Search(model, images, labels, draws)
    rows = search.standing
    seen = search.climb(rows, images, lambda logits, rows: cross_entropy(logits, labels[rows]), candidates=False)
    moved = inside(images, project(steepest(seen.gradient, norm) * eps, eps, norm), eps, norm)
    search.look(rows, moved)
    search.leave(rows, moved)
    return search.outcome()


@attack(severity="eps", family="white-box", source="Madry et al. 2018", url="https://arxiv.org/abs/1706.06083", citation=_PGD)
def pgd(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 20, step: Radius | None = None, restarts: Count = 1, eot: Count = 1, early: bool = True,
) -> Crafted:  # fmt: skip
    """Projected gradient descent on the cross-entropy from a random start in the ball.

    eps: radius in pixel units; write 4/255. step: step size, default 2.5·eps/steps (Madry et al. use 2/255 at eps = 8/255). restarts:
    fresh starts for the samples that still stand. eot: gradients averaged at each step, for models with randomness of their own. A sample stops at
    its first misclassified iterate; one that never falls returns its last. Differs from the paper only there: the verdicts are the same, the
    fallen cost nothing more. early: False lets all take all steps, as one does where the images are for another model.
    """
    search = Search(model, images, labels, draws, early=early)
    size = step if step is not None else 2.5 * eps / steps
    for restart in range(restarts):
        rows = search.standing
        _descend(search, rows, draws.at(restart)[rows], eps, norm, steps, size, eot)
    return search.outcome()


def _descend(search: Search, rows: Tensor, draws: Draws, eps: float, norm: Norm, steps: int, size: float, eot: int) -> None:
    """One run of PGD over the samples `rows`."""
    start = search.images[rows]
    reached = inside(start, random_start(start, eps, norm, draws), eps, norm)
    low, high = bounds(start, eps)
    for _ in range(steps):
        if not len(rows):
            return
        seen = search.climb(rows, reached, lambda logits, rows: cross_entropy(logits, search.labels[rows]), eot=eot)
        alive, gradient = search.stand(rows), seen.gradient
        if not bool(alive.all()):
            rows, start, reached, gradient, low, high = (one[alive] for one in (rows, start, reached, gradient, low, high))
        if norm == "linf":
            reached = torch.clamp(reached.add(gradient.sign(), alpha=size), low, high)
        else:
            reached = inside(start, project(reached - start + size * steepest(gradient, norm), eps, norm), eps, norm)
    if len(rows):
        search.look(rows, reached)
        search.leave(rows, reached)


def inside(images: Tensor, delta: Tensor, eps: float, norm: Norm) -> Tensor:
    """images + delta cut to [0, 1]; for linf also to the ball's corners, which rounding of the sum may pass."""
    moved = (images + delta).clamp_(0.0, 1.0)
    if norm == "linf":
        return torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp_(0.0, 1.0)
    return moved
