"""Sharpness-aware minimisation: a step along the gradient at a worse point near the weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.limits import NonNegative
from robustvit.spec.registry import defense

_SAM = """@inproceedings{foret2021sharpness,
  title={Sharpness-aware Minimization for Efficiently Improving Generalization},
  author={Foret, Pierre and Kleiner, Ariel and Mobahi, Hossein and Neyshabur, Behnam},
  booktitle={International Conference on Learning Representations},
  year={2021}
}"""
_ETA = 0.01  # of ASAM, added to the size of a weight


@defense(
    family="weights", source="Foret et al. 2021; adaptive: Kwon et al. 2021 (ASAM)", url="https://arxiv.org/abs/2010.01412", citation=_SAM,
)  # fmt: skip
def sam(*, rho: NonNegative = 0.05, adaptive: bool = False) -> Defense:
    """Sharpness-aware minimisation (SAM, Foret et al. 2021): the gradient of a step is that at w + rho · g/‖g‖, g the gradient at w.

    rho: l2 radius in the space of all weights together; 0 is the plain step. adaptive: ASAM (Kwon et al. 2021), whose radius scales with
    each weight: w + rho · T²g/‖Tg‖, T = |w| + 0.01. The paper's rho are 0.05, and 0.5 with `adaptive`. Two forward and backward passes a
    step; the images of a step are made once. Gradients are those after clipping.
    """

    def step(closure: Closure, optimizer: Optimizer) -> Tensor:
        loss = closure()
        if rho:
            weights = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
            kept = [one.detach().clone() for one in weights]
            with torch.no_grad():
                for one, move in zip(weights, ascents(weights, rho, adaptive), strict=True):
                    one.add_(move)
            closure()
            with torch.no_grad():
                for one, before in zip(weights, kept, strict=True):
                    one.copy_(before)
        optimizer.step()
        return loss

    return Defense("sam", step=step)


def ascents(weights: list[Tensor], rho: float, adaptive: bool) -> list[Tensor]:
    """How far each weight goes up, by its gradient; all zero where every gradient is."""
    gradients = [one.grad for one in weights if one.grad is not None]
    scales = [one.detach().abs() + _ETA if adaptive else torch.ones_like(one) for one in weights]
    length = torch.stack([(scale * gradient).square().sum() for scale, gradient in zip(scales, gradients, strict=True)]).sum().sqrt()
    factor = torch.where(length > 0, rho / length.clamp_min(1e-30), 0.0)
    return [factor * scale.square() * gradient for scale, gradient in zip(scales, gradients, strict=True)]
