"""Checks input gradients: the change of the loss that they predict, against the change that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.attack_search import GRADIENTS, input_gradient, not_finite
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

Radius = Annotated[float, Gt(0), Lt(0.5)]

_SUM = 1e-3  # how far from 1 a row of probabilities may sum in half precision


@analysis(
    family="gradients",
    source="Athalye, Carlini and Wagner 2018, section 3.1; Carlini et al. 2019",
    url="https://arxiv.org/abs/1802.00420",
    licence="a published idea; no code is used",
    citation="""@inproceedings{athalye2018obfuscated,
  title={Obfuscated Gradients Give a False Sense of Security: Circumventing Defenses to Adversarial Examples},
  author={Athalye, Anish and Carlini, Nicholas and Wagner, David},
  booktitle={International Conference on Machine Learning},
  year={2018}
}""",
    rules="Every image is measured, also one that is misclassified when clean. The papers describe masked gradients and give no measure; "
    "these are ours.",
    passes="surface_passes",
    version=2,
)
def loss_surface(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, eps: Radius = 1 / 255, step: Radius = 0.05 / 255, directions: Annotated[int, Ge(1)] = 8,
) -> dict[str, Tensor]:  # fmt: skip
    """Compares the input gradient with finite differences of the loss around each image, and a step along it with random steps.

    eps: length of the steps, in linf; write 1/255. step: half the distance between the two images of a finite difference along the
    gradient's sign. directions: random corners of the ball that are tried. Images are first moved `step` away from 0 and 1. The loss is
    the log odds against the label, which rise with the cross-entropy and never saturate; steps follow their gradient, as attacks do.
    Columns: value_slope_error, the difference of predicted and measured slope as a share of the larger: 0 where
    they agree, 1 where one is zero, up to 2 where their signs differ. value_step_gain, value_random_gain: what a step along the gradient
    adds to the loss, and the most that a random one does. value_probability: 1 where the outputs are probabilities and no logits.
    gradient: exact, straight-through, absent, or not finite in some value, which then counts as zero. A model that computes in less than
    float32 rounds away what a finite difference measures.
    """
    base = images.clamp(step, 1.0 - step)
    local = _linearise(model, base, labels)
    point = _Point(model, base, labels, local.odds)
    corners = (_corner(draws.at(f"direction {turn}"), base) for turn in range(directions))
    code = torch.where((local.slope != 0).flatten(1).any(dim=1), GRADIENTS.index(model.gradient), GRADIENTS.index("absent"))
    return {
        "value_slope_error": _disagreement(local.slope.flatten(1).double().abs().sum(dim=1), point.slope(local.slope.sign(), step)),
        "value_step_gain": point.gain(eps * local.slope.sign()),
        "value_random_gain": torch.stack([point.gain(eps * corner) for corner in corners]).amax(dim=0),
        "value_probability": local.probability,
        "gradient": torch.where(local.broken, GRADIENTS.index("not finite"), code),
    }


class _Linearisation(NamedTuple):
    """Log odds of images against their labels, their gradient, whether that is not finite, and whether outputs are probabilities."""

    odds: Tensor
    slope: Tensor
    broken: Tensor
    probability: Tensor


def _linearise(model: Classifier, images: Tensor, labels: Tensor) -> _Linearisation:
    leaf = images.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(leaf)
        odds = _odds(logits, labels)
        slope = input_gradient(odds, leaf)
    outputs = logits.detach()
    probability = (outputs >= 0).all(dim=1) & ((outputs.sum(dim=1) - 1.0).abs() < _SUM)
    return _Linearisation(odds.detach(), slope.nan_to_num(0.0, 0.0, 0.0), not_finite(slope), probability.float())


@dataclass(frozen=True)
class _Point:
    """Some images, and their loss."""

    model: Classifier
    images: Tensor
    labels: Tensor
    loss: Tensor

    def gain(self, delta: Tensor) -> Tensor:
        """(N,) the increase of the loss under a perturbation."""
        with torch.no_grad():
            return _odds(self.model((self.images + delta).clamp(0.0, 1.0)), self.labels) - self.loss

    def slope(self, direction: Tensor, step: float) -> Tensor:
        """(N,) the central finite difference of the loss along a direction."""
        return (self.gain(step * direction) - self.gain(-step * direction)) / (2.0 * step)


def _odds(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) log Σ exp(other logits) minus the label's, in float64."""
    own = functional.one_hot(labels, logits.shape[1]).bool()
    wide = logits.double()
    return wide.masked_fill(own, -torch.inf).logsumexp(dim=1) - wide.gather(1, labels[:, None])[:, 0]


def _disagreement(predicted: Tensor, measured: Tensor) -> Tensor:
    """(N,) |a − b| / max(|a|, |b|), and 0 where both are zero."""
    larger = torch.maximum(predicted.abs(), measured.abs())
    return torch.where(larger > 0, (predicted - measured).abs() / larger.where(larger > 0, 1.0), 0.0)


def _corner(draws: Draws, images: Tensor) -> Tensor:
    """A random sign for each value of each image."""
    return torch.where(draws.uniform(*images.shape[1:]).to(images) < 0.5, -1.0, 1.0)


def surface_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A gradient, three points along it, and one for each direction."""
    return Passes(forward=3 + product_of(spec, "directions"), gradients=1)
