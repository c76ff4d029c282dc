"""Projected gradient ascent on a loss of the model that is trained: how adversarial training makes its images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import project_in_box, steepest

_NOISE = 0.001
TrainingNorm: TypeAlias = Literal["linf", "l2"]
"""The norms that adversarial training is defined for."""
Start: TypeAlias = Callable[[float], Tensor]
"""The radius → perturbations (N, 3, H, W) before the first step."""
SummedLoss: TypeAlias = Callable[[Tensor], Tensor]
"""(N, K) logits → () their loss, summed over samples: a mean of many could push the gradient of each below what half precision holds."""


@dataclass(frozen=True)
class Adversary:
    """How far and in how many steps images move. eps: the radius; step: size of a step, None for 2.5·eps/steps, both in pixel units.

    warmup: epochs over which eps and step rise from 0.
    """

    eps: float
    norm: TrainingNorm = "linf"
    steps: int = 10
    step: float | None = None
    warmup: float = 0.0

    def ascend(self, model: nn.Module, batch: Batch, start: Start, loss: SummedLoss) -> Tensor:
        """The images of a batch after so many steps of ascent on a loss, inside the ball and in [0, 1]: (N, 3, H, W).

        A sample whose gradient is 0 stays where it is.
        """
        images, scale = batch.images, batch.progress.ramp(self.warmup)
        eps, size = self.eps * scale, (2.5 * self.eps / self.steps if self.step is None else self.step) * scale
        delta = project_in_box(images, start(eps), eps, self.norm)
        for _ in range(self.steps):
            uphill = steepest(image_gradient(model, images + delta, loss), self.norm)
            delta = project_in_box(images, delta + size * uphill, eps, self.norm)
        return images + delta


def image_gradient(model: nn.Module, images: Tensor, loss: SummedLoss) -> Tensor:
    """The gradient of a loss of the logits with respect to the images, (N, 3, H, W), without a graph."""
    leaf = images.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(loss(model(leaf)), leaf)[0]


def small_noise(batch: Batch, draws: Draws) -> Tensor:
    """Normal noise of standard deviation 0.001, from which losses ascend that have no gradient at the images themselves."""
    return _NOISE * draws.normal(*batch.images.shape[1:]).to(batch.images)


def summed_cross_entropy(batch: Batch) -> SummedLoss:
    """The cross-entropy of logits and the targets of a batch."""
    return functools.partial(functional.cross_entropy, target=batch.targets, reduction="sum")
