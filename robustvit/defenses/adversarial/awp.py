"""Adversarial weight perturbation: every step is taken at weights that are worse by a share of their own size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.limits import NonNegative
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{wu2020adversarial,
  title={Adversarial Weight Perturbation Helps Robust Generalization},
  author={Wu, Dongxian and Xia, Shu-Tao and Wang, Yisen},
  booktitle={Advances in Neural Information Processing Systems},
  year={2020}
}"""
_TINY = 1e-20


@defense(
    family="adversarial", source="Wu et al. 2020", url="https://arxiv.org/abs/2004.05884", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Goes with a defense that makes adversarial images (pgd_at, trades, mart), which are made once a step, before weights move. "
    "Differs from the authors' code: no copy of the model takes the ascent, and every tensor of more than one dimension moves, where they "
    "choose those that are called `weight`.",
)  # fmt: skip
def awp(*, gamma: NonNegative = 0.01) -> Defense:
    """Adversarial weight perturbation (AWP, Wu et al. 2020): loss, gradient and step at w + gamma · ‖w‖ g/‖g‖, tensor by tensor.

    gamma: the share of each tensor's l2 norm; the authors take 0.01 with PGD-AT and 0.005 with TRADES; 0 is the plain step. g: the gradient
    of the loss on the same images at w. After the step the perturbation is taken back. One forward and backward pass more.
    """

    def step(closure: Closure, optimizer: Optimizer) -> Tensor:
        loss = closure()
        if not gamma:
            optimizer.step()
            return loss
        tensors = [one for group in optimizer.param_groups for one in group["params"] if one.dim() > 1 and one.grad is not None]
        moves = perturbations(tensors, gamma)
        with torch.no_grad():
            for one, move in zip(tensors, moves, strict=True):
                one.add_(move)
        found = closure()
        optimizer.step()
        with torch.no_grad():
            for one, move in zip(tensors, moves, strict=True):
                one.sub_(move)
        return found

    return Defense("awp", step=step)


def perturbations(tensors: list[Tensor], gamma: float) -> list[Tensor]:
    """gamma · ‖w‖ g/‖g‖ of each tensor by its gradient; zero where that is."""
    return [gamma * one.detach().norm() / (one.grad.norm() + _TINY) * one.grad for one in tensors if one.grad is not None]
