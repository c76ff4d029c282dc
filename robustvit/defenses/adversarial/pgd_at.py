"""Adversarial training by projected gradient descent, the baseline of all others."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.primitives.norms import random_start
from robustvit.primitives.training.ascent import Adversary, TrainingNorm, summed_cross_entropy
from robustvit.primitives.training.crafting import Mode
from robustvit.spec.registry import defense

CITATION = """@inproceedings{madry2018towards,
  title={Towards Deep Learning Models Resistant to Adversarial Attacks},
  author={Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian},
  booktitle={International Conference on Learning Representations},
  year={2018}
}"""


@defense(
    family="adversarial", source="Madry et al. 2018", url="https://arxiv.org/abs/1706.06083", citation=CITATION,
    rules="Evaluate under AutoAttack at the eps of training and at twice it, never under the attack that it was trained with.",
)  # fmt: skip
def pgd_at(
    *, eps: NonNegative, norm: TrainingNorm = "linf", steps: Count = 10, step: Radius | None = None,
    start: Literal["uniform", "none"] = "uniform", warmup: NonNegative = 0.0, mode: Mode = "eval",
) -> Defense:  # fmt: skip
    """Adversarial training (PGD-AT, Madry et al. 2018): whatever the loss, it is of images that ascend the cross-entropy.

    eps: radius in pixel units; write 8/255. step: step size, default 2.5·eps/steps (the paper takes 2/255 at eps = 8/255). start: a random
    point of the ball, or the image. warmup: epochs over which eps rises from 0, and steps with it. mode: of the model while images are
    made. Its cost is that of `steps` forward and backward passes beside the one of the loss.
    """
    adversary = Adversary(eps, norm, steps, step, warmup)

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        def first(radius: float) -> Tensor:
            return random_start(batch.images, radius, norm, draws) if start == "uniform" else torch.zeros_like(batch.images)

        return adversary.ascend(model, batch, first, summed_cross_entropy(batch))

    return Defense("pgd_at", craft=craft, crafting=mode)
