"""Consistency regularisation under Gaussian noise, for certificates by randomised smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{jeong2020consistency,
  title={Consistency Regularization for Certified Robustness of Smoothed Classifiers},
  author={Jeong, Jongheon and Shin, Jinwoo},
  booktitle={Advances in Neural Information Processing Systems},
  year={2020}
}"""


@defense(
    family="certified", source="Jeong and Shin 2020", url="https://arxiv.org/abs/2006.04062", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Certify with the certificate `gaussian` at the sigma of training. Takes the place of the defense `gaussian`: it draws its noise "
    "itself. Differs from the authors' code, which takes a step on each of m parts of a batch: all copies of all images are in one step.",
)  # fmt: skip
def consistency(*, sigma: NonNegative, lbd: NonNegative = 10.0, eta: NonNegative = 0.5, m: Count = 2) -> Defense:
    """Consistency training (Jeong and Shin 2020): images in m copies with Gaussian noise each, whose predictions shall agree.

    The loss is the mean over copies of cross-entropy + lbd · KL(p̄‖pᵢ), + eta · the entropy of p̄, p̄ the mean of the m predictions pᵢ.
    sigma: standard deviation of the noise, in pixel units; images are not clipped. With lbd = eta = 0 it is Gaussian augmentation with m
    copies of every image. m forward and backward passes a step.
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        shape = batch.shown.shape[1:]
        copies = [batch.shown + sigma * draws.at(f"copy {copy}").normal(*shape).to(batch.shown) for copy in range(m)]
        logits = model(torch.cat(copies)).chunk(m)
        fit = torch.stack([functional.cross_entropy(one, batch.targets) for one in logits]).mean()
        return fit + inconsistency(logits, lbd, eta) if lbd or eta else fit

    return Defense("consistency", loss=loss)


def inconsistency(logits: Sequence[Tensor], lbd: float, eta: float) -> Tensor:
    """The mean over samples of lbd · the mean of KL(p̄‖pᵢ) + eta · H(p̄), () nats. logits: (N, K) of each copy, softmax of which is pᵢ."""
    logs = torch.stack([one.log_softmax(dim=1) for one in logits])
    mean = logs.exp().mean(dim=0)
    log_mean = logs.logsumexp(dim=0) - math.log(len(logs))
    divergence = (mean * (log_mean - logs)).sum(dim=2).mean()
    entropy = -(mean * log_mean).sum(dim=1).mean()
    return lbd * divergence + eta * entropy
