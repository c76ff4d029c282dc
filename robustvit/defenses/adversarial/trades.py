"""TRADES: accuracy on the images, and predictions that stay the same around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.primitives.training.ascent import Adversary, TrainingNorm, small_noise
from robustvit.primitives.training.crafting import Mode
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{zhang2019theoretically,
  title={Theoretically Principled Trade-off between Robustness and Accuracy},
  author={Zhang, Hongyang and Yu, Yaodong and Jiao, Jiantao and Xing, Eric P. and El Ghaoui, Laurent and Jordan, Michael I.},
  booktitle={International Conference on Machine Learning},
  year={2019}
}"""


@defense(
    family="adversarial", source="Zhang et al. 2019", url="https://arxiv.org/abs/1901.08573", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Evaluate under AutoAttack at the eps of training and at twice it. Differs from the authors' code: the prediction of the image "
    "is computed once while images are made, and once for both terms of the loss, which changes nothing but the statistics of batch "
    "normalisation: it updates them twice a step and not three times.",
)  # fmt: skip
def trades(
    *, eps: NonNegative, beta: NonNegative = 6.0, norm: TrainingNorm = "linf", steps: Count = 10, step: Radius | None = None,
    warmup: NonNegative = 0.0, mode: Mode = "eval",
) -> Defense:  # fmt: skip
    """TRADES (Zhang et al. 2019): cross-entropy + beta · KL(p‖q), p the prediction of the image and q that of one near it.

    eps: radius in pixel units; write 8/255. beta: weight of the divergence, a mean over images; 0 is plain training. Images ascend the
    divergence from normal noise of 0.001 in so many `steps` of size `step`, default 2.5·eps/steps (the authors take .007 at eps = .031).
    Gradients flow through both predictions. warmup: epochs over which eps rises from 0. mode: of the model while images are made.
    """
    adversary = Adversary(eps, norm, steps, step, warmup)

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        with torch.no_grad():
            natural = model(batch.images).log_softmax(dim=1)

        def divergence(logits: Tensor) -> Tensor:
            return functional.kl_div(logits.log_softmax(dim=1), natural, reduction="sum", log_target=True)

        return adversary.ascend(model, batch, lambda _: small_noise(batch, draws), divergence)

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        logits = model(batch.images)
        natural = functional.cross_entropy(logits, batch.targets)
        return natural + beta * divergence_of(logits, model(batch.shown)) if beta else natural

    return Defense("trades", craft=craft, loss=loss, crafting=mode)


def divergence_of(natural: Tensor, adversarial: Tensor) -> Tensor:
    """The mean over samples of KL(p‖q), p of the natural logits (N, K) and q of the adversarial ones; its gradient flows through both."""
    return functional.kl_div(adversarial.log_softmax(dim=1), natural.log_softmax(dim=1), reduction="batchmean", log_target=True)
