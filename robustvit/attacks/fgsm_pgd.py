"""Attacks that follow the input gradient of the cross-entropy: FGSM and PGD."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.attacks.losses import Target, cross_entropy_loss
from robustvit.primitives.attack_search import Crafted, Loss, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.norms import Norm, bounds, project, random_start, steepest
from robustvit.spec.registry import attack

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


@attack(
    severity="eps",
    family="white-box",
    source="Goodfellow et al. 2015",
    url="https://arxiv.org/abs/1412.6572",
    citation=_FGSM,
    passes=("steps",),
    version=2,
)
def fgsm(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, eps: Radius, norm: Norm = "linf") -> Crafted:
    """FGSM (Goodfellow et al. 2015): one step of size eps in the direction of steepest ascent of the cross-entropy.

    eps: radius in pixel units; write 4/255. The direction is the gradient's sign in linf, as in the paper, the normalised gradient in l2,
    and the coordinate of the largest gradient in l1. It is that of the log odds against the label, which is the cross-entropy's and does
    not vanish where logits are large. Returns images in [0, 1] inside the ball. Deterministic: no random start.
    """
    search = Search(model, images, labels, draws)
    rows = search.active
    gradient = search.query_gradient(rows, images, cross_entropy_loss(search, "label"), candidates=False).gradient
    moved = clip_to_ball(images, project(steepest(gradient, norm) * eps, eps, norm), eps, norm)
    search.query(rows, moved)
    search.keep_best(rows, moved)
    return search.outcome()


@attack(
    severity="eps",
    family="white-box",
    source="Madry et al. 2018",
    url="https://arxiv.org/abs/1706.06083",
    citation=_PGD,
    passes=("steps", "restarts", "eot"),
    version=2,
)
def pgd(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 20, step: Radius | None = None, restarts: Count = 1, eot: Count = 1,
    early: bool = True, target: Target = "label",
) -> Crafted:  # fmt: skip
    """PGD (Madry et al. 2018): projected gradient ascent on the cross-entropy from a random start in the ball.

    eps: radius in pixel units; write 4/255. step: step size, default 2.5·eps/steps (the paper uses 2/255 at eps = 8/255). restarts: random
    starts; each attacks the samples that are still robust. eot: gradients averaged at each step, for models with randomness of their own.
    target: `label` leads away from the label; `second` and `least_likely` lead to the most and the least likely wrong class of the clean
    image, by descent on the cross-entropy of that class. Whichever class a sample is misclassified as, it then counts as misclassified.
    early: a sample stops at its first misclassified iterate, where the paper takes all steps: success is the same and misclassified samples
    cost nothing more. False lets all samples take all steps, for images that are meant for another model. A sample that stays robust
    returns its last iterate. Gradients are those of the log odds, which point as the cross-entropy's do and do not vanish where logits are
    large; with eot all draws weigh alike, where the mean cross-entropy weighs each by 1 − p(label).
    """
    search = Search(model, images, labels, draws, early=early)
    loss = cross_entropy_loss(search, target)
    size = step if step is not None else 2.5 * eps / steps
    for restart in range(restarts):
        rows = search.active
        _run_pgd(search, rows, draws.at(restart)[rows], loss, eps, norm, steps, size, eot)
    return search.outcome()


def _run_pgd(
    search: Search, rows: Tensor, draws: Draws, loss: Loss, eps: float, norm: Norm, steps: int, size: float, eot: int
) -> None:  # fmt: skip
    """One run of PGD over the samples `rows`."""
    start = search.images[rows]
    iterate = clip_to_ball(start, random_start(start, eps, norm, draws), eps, norm)
    low, high = bounds(start, eps)
    for _ in range(steps):
        if not len(rows):
            return
        gradient = search.query_gradient(rows, iterate, loss, eot=eot).gradient
        active = search.is_active(rows)
        if not bool(active.all()):
            rows, start, iterate, gradient, low, high = (one[active] for one in (rows, start, iterate, gradient, low, high))
        if norm == "linf":
            iterate = torch.clamp(iterate.add(gradient.sign(), alpha=size), low, high)
        else:
            iterate = clip_to_ball(start, project(iterate - start + size * steepest(gradient, norm), eps, norm), eps, norm)
    if len(rows):
        search.query(rows, iterate)
        search.keep_best(rows, iterate)


def clip_to_ball(images: Tensor, delta: Tensor, eps: float, norm: Norm) -> Tensor:
    """images + delta, clipped to [0, 1]; in linf also to images ± eps, which rounding of the sum may exceed."""
    moved = (images + delta).clamp_(0.0, 1.0)
    if norm == "linf":
        return torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp_(0.0, 1.0)
    return moved
