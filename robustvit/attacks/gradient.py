"""Attacks that follow the sign or direction of the input gradient: FGSM and PGD."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import cross_entropy

from robustvit.classifier import Classifier
from robustvit.draws import Draws
from robustvit.norms import Norm, project, random_start, steepest
from robustvit.registry import attack

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
def fgsm(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, eps: Radius, norm: Norm = "linf") -> Tensor:
    """One step of size eps along the steepest ascent of the cross-entropy (FGSM; in l2 the normalised gradient).

    eps: radius in pixel units; write 4/255. Returns images in [0, 1] inside the ball. Deterministic: no random start.
    """
    direction = steepest(input_gradient(model, images, labels), norm)
    return inside(images, project(direction * eps, eps, norm), eps, norm)


@attack(severity="eps", family="white-box", source="Madry et al. 2018", url="https://arxiv.org/abs/1706.06083", citation=_PGD)
def pgd(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius, norm: Norm = "linf", steps: Count = 20, step: Radius | None = None, restarts: Count = 1,
) -> Tensor:  # fmt: skip
    """Projected gradient descent on the cross-entropy from a random start in the ball.

    eps: radius in pixel units; write 4/255. step: step size, default 2.5·eps/steps (Madry et al. use 2/255 at eps = 8/255). restarts:
    fresh starts for the samples that still stand. A sample stops at its first misclassified iterate; one that never falls returns its
    last. Differs from the paper only there: the verdicts are the same, the fallen cost nothing more.
    """
    size = step if step is not None else 2.5 * eps / steps
    result = images.clone()
    standing = torch.arange(len(images), device=images.device)
    for restart in range(restarts):
        keyed = draws.at(restart)[standing]
        crafted, fallen = _descend(model, images[standing], labels[standing], keyed, eps, norm, steps, size)
        result[standing] = crafted
        standing = standing[~fallen]
        if not len(standing):
            break
    return result


def _descend(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, eps: float, norm: Norm, steps: int, size: float
) -> tuple[Tensor, Tensor]:
    """One run of PGD: the images reached, and which of them are misclassified."""
    reached = inside(images, random_start(images, eps, norm, draws), eps, norm)
    fallen = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    active = torch.arange(len(images), device=images.device)
    for turn in range(steps + 1):
        last = turn == steps
        current = reached[active]
        logits, gradient = logits_and_gradient(model, current, labels[active], gradient=not last)
        wrong = logits.argmax(dim=1) != labels[active]
        fallen[active[wrong]] = True
        if last or bool(wrong.all()):
            break
        active, current, gradient = active[~wrong], current[~wrong], gradient[~wrong]
        start = images[active]
        delta = project(current - start + size * steepest(gradient, norm), eps, norm)
        reached[active] = inside(start, delta, eps, norm)
    return reached, fallen


def inside(images: Tensor, delta: Tensor, eps: float, norm: Norm) -> Tensor:
    """images + delta cut to [0, 1]; for linf also to the ball's corners, which rounding of the sum may pass."""
    moved = (images + delta).clamp_(0.0, 1.0)
    if norm == "linf":
        return torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp_(0.0, 1.0)
    return moved


def input_gradient(model: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the pixels, shaped like `images`; a row depends on that row alone."""
    return logits_and_gradient(model, images, labels)[1]


def logits_and_gradient(model: Classifier, images: Tensor, labels: Tensor, gradient: bool = True) -> tuple[Tensor, Tensor]:
    """(N, K) logits and the input gradient of the summed cross-entropy (zeros when `gradient` is False)."""
    if not gradient:
        with torch.no_grad():
            return model(images), torch.zeros_like(images)
    leaf = images.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(leaf)
        (found,) = torch.autograd.grad(cross_entropy(logits, labels, reduction="sum"), leaf)
    return logits.detach(), found
