"""AugMix: images mixed of chains of simple operations, and a penalty on predictions that differ between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image
from torch import Tensor, nn

from robustvit.defenses.augmentation.pillow_ops import ALL_OPS, OPS, Op, OpSeverity, apply_op
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Whole
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.primitives.training.distributions import beta, dirichlet
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{hendrycks2020augmix,
  title={{AugMix}: A Simple Data Processing Method to Improve Robustness and Uncertainty},
  author={Hendrycks, Dan and Mu, Norman and Cubuk, Ekin D. and Zoph, Barret and Gilmer, Justin and Lakshminarayanan, Balaji},
  booktitle={International Conference on Learning Representations},
  year={2020}
}"""
_DEEPEST = 3  # operations of a chain whose depth is drawn


@defense(
    family="augmentation", source="Hendrycks et al. 2020", url="https://arxiv.org/abs/1912.02781", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from the paper and facts of the code",
    rules="Evaluate under corruptions (suite `imagenet-c`); with all_ops four operations are near to corruptions of that suite: say so "
    "beside the numbers. Differs from the authors' code: cross-entropy and divergence are two passes, of one image and of three, so that "
    "the divergence is added to any loss; the same loss where a model has neither dropout nor batch statistics.",
)  # fmt: skip
def augmix(
    *, jsd: NonNegative = 12.0, width: Count = 3, depth: Whole = 0, severity: OpSeverity = 3.0,
    alpha: Annotated[float, Ge(0.1), Le(100)] = 1.0, all_ops: bool = False,
) -> Defense:  # fmt: skip
    """AugMix (Hendrycks et al. 2020): loss + jsd · the Jensen-Shannon divergence of the predictions of an image and two mixtures of it.

    A mixture is (1 − m)·x + m · Σ wᵢ·chainᵢ(x), m ~ Beta(alpha, alpha), w ~ Dirichlet(alpha, …), of `width` chains of `depth` random
    operations each, 0 for 1, 2 or 3 at random; operations see the image in 8 bits. jsd: 12 in the paper; 0 trains on one mixture in place
    of the image, without a divergence. severity: 3 for CIFAR and 1 for ImageNet in the authors' code. all_ops: color, contrast, brightness
    and sharpness, too. Four forward and backward passes a step, with jsd = 0 one.
    """
    ops = tuple((ALL_OPS if all_ops else OPS).values())

    def mixture(given: Batch, draws: Draws) -> Tensor:
        weights, share = dirichlet(draws.at("weights"), alpha, width), beta(draws.at("share"), alpha, alpha)
        return mixed(given.images, chains(given.images, draws, ops, width, depth, severity), weights, share)

    def batch(given: Batch, draws: Draws) -> Batch:
        return given.with_images(mixture(given, draws))

    def penalty(model: nn.Module, given: Batch, draws: Draws) -> Tensor:
        views = (given.images, mixture(given, draws.at("first")), mixture(given, draws.at("second")))
        return jsd * jensen_shannon(model(torch.cat(views)).chunk(3))

    return Defense("augmix", penalty=penalty) if jsd else Defense("augmix", batch=batch)


def chains(images: Tensor, draws: Draws, ops: Sequence[Op], width: int, depth: int, severity: float) -> Tensor:
    """Each image after `width` chains of operations of its own, (N, width, 3, H, W) in [0, 1]."""
    longest = depth or _DEEPEST
    depths = draws.at("depth").integers(width, low=1, high=_DEEPEST + 1).cpu().numpy()
    which = draws.at("ops").integers(width, longest, low=0, high=len(ops)).cpu().numpy()
    uniform = draws.at("levels").uniform(width, longest, 2).cpu().numpy()
    made = np.empty((len(images), width, *images.shape[2:], 3), np.uint8)
    for row, image in enumerate(to_uint8(images)):
        for chain in range(width):
            changed = Image.fromarray(image)
            for place in range(depth or int(depths[row, chain])):
                changed = apply_op(changed, ops[which[row, chain, place]], tuple(uniform[row, chain, place].tolist()), severity)
            made[row, chain] = np.asarray(changed)
    return pixels(made.reshape(-1, *made.shape[2:]), images.device).view(len(images), width, *images.shape[1:])


def mixed(images: Tensor, chained: Tensor, weights: Tensor, share: Tensor) -> Tensor:
    """(1 − share)·image + share · the weighted sum of its chains: (N, 3, H, W), between the two in every pixel.

    images: (N, 3, H, W); chained: (N, width, 3, H, W); weights: (N, width), which sum to 1; share: (N,).
    """
    total = torch.zeros_like(images)
    for chain in range(chained.shape[1]):  # one by one, so that a sum of many images has the bits of a sum of one
        total += weights[:, chain, None, None, None] * chained[:, chain]
    total.clamp_(0.0, 1.0)
    between = images + share[:, None, None, None] * (total - images)
    return between.maximum(images.minimum(total)).minimum(images.maximum(total))


def jensen_shannon(logits: Sequence[Tensor]) -> Tensor:
    """The mean over samples of the Jensen-Shannon divergence of several predictions, () in [0, log of their number], nats.

    logits: (N, K) each. The mean over predictions p of KL(p‖M), M their mean.
    """
    logs = [one.log_softmax(dim=1) for one in logits]
    middle = torch.stack(logs).logsumexp(dim=0) - math.log(len(logs))
    return torch.stack([(one.exp() * (one - middle)).sum(dim=1) for one in logs]).mean()
