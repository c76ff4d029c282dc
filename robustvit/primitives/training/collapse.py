"""Catastrophic overfitting: training on images of one step, after which a model resists those and no others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import random_start
from robustvit.primitives.training.ascent import Adversary, summed_cross_entropy

_STEPS = 5
_FALL = 0.2  # of accuracy between two epochs, as Wong et al. 2020 take it
_DEVIATIONS = 3.0  # of the difference of two proportions: a fall within them may be chance in a small batch
_KEPT = "accuracy"


def collapse(model: nn.Module, batch: Batch, draws: Draws, eps: float, state: dict[str, Tensor]) -> str:
    """Why training must not go on, or "": the accuracy under PGD of 5 steps of eps/4 fell by more than 0.2 since the last call.

    A fall must also exceed three standard deviations of the difference of two proportions of so many images. state: keeps the accuracy for
    the next call. After the check of Wong, Rice and Kolter 2020, who compare the first batches of two epochs.
    """
    adversary = Adversary(eps, "linf", _STEPS, eps / 4)
    images = adversary.ascend(model, batch, lambda radius: random_start(batch.images, radius, "linf", draws), summed_cross_entropy(batch))
    with torch.no_grad():
        now = float((model(images).argmax(dim=1) == batch.labels).double().mean())
    before = float(state[_KEPT]) if _KEPT in state else now
    state[_KEPT] = torch.tensor(now, dtype=torch.float64)
    between = (now + before) / 2
    chance = _DEVIATIONS * math.sqrt(2 * between * (1 - between) / len(batch))
    if before - now <= max(_FALL, chance):
        return ""
    return (
        f"catastrophic overfitting: accuracy under PGD of {_STEPS} steps fell from {before:.0%} to {now:.0%} in one epoch. Take a smaller "
        "step or eps, or nfgsm, or pgd_at of more steps."
    )
