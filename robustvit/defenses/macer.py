"""MACER: training that raises the certified radius of a smoothed classifier itself, without an attack."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{zhai2020macer,
  title={{MACER}: Attack-free and Scalable Robust Training via Maximizing Certified Radius},
  author={Zhai, Runtian and Dan, Chen and He, Di and Zhang, Huan and Gong, Boqing and Ravikumar, Pradeep and Hsieh, Cho-Jui and
    Wang, Liwei},
  booktitle={International Conference on Learning Representations},
  year={2020}
}"""


@defense(
    family="certified", source="Zhai et al. 2020", url="https://arxiv.org/abs/2001.02378", citation=_CITATION,
    licence="written from the paper and facts of the code",
    rules="Certify with the certificate `gaussian` at the sigma of training. Takes the place of the defense `gaussian`.",
)  # fmt: skip
def macer(
    *, sigma: NonNegative, lbd: NonNegative = 16.0, m: Count = 16, beta: Radius = 16.0, gamma: NonNegative = 8.0
) -> Defense:  # fmt: skip
    """MACER (Zhai et al. 2020): −log of the mean of m softmaxes under Gaussian noise, + lbd · a hinge on the certified radius.

    The hinge is σ/2 · (gamma − (Φ⁻¹(p₁) − Φ⁻¹(p₂))), summed over the samples that are classified correctly and for which that margin is
    at most gamma, divided by all; p₁, p₂ are the two largest means of softmax(beta · logits). sigma: of the noise, in pixel units; images
    are not clipped. Samples of infinite margin count nothing. m forward and backward passes a step. Raises BadParameter for soft labels.
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        if batch.soft_labels is not None:
            raise BadParameter(
                "the defense 'macer' needs the label of each image, and these have soft labels; leave out what makes them so."
            )
        shape = batch.shown.shape[1:]
        copies = [batch.shown + sigma * draws.at(f"copy {copy}").normal(*shape).to(batch.shown) for copy in range(m)]
        logits = torch.stack(model(torch.cat(copies)).chunk(m))
        fit = -(logits.log_softmax(dim=2).logsumexp(dim=0).gather(1, batch.labels[:, None])).mean() + math.log(m)
        return fit + lbd * radius_hinge(logits, batch.labels, sigma, beta, gamma) if lbd and sigma else fit

    return Defense("macer", loss=loss)


def radius_hinge(logits: Tensor, labels: Tensor, sigma: float, beta: float, gamma: float) -> Tensor:
    """The hinge on the certified radius, as `macer` has it, () in pixel units. logits: (m, N, K)."""
    probabilities = (beta * logits.float()).softmax(dim=2).mean(dim=0)
    largest, classes = probabilities.topk(2, dim=1)
    with torch.no_grad():
        margins = torch.special.ndtri(largest[:, 0]) - torch.special.ndtri(largest[:, 1])
        counted = (classes[:, 0] == labels) & (margins <= gamma)  # not where it is infinite, nor NaN
    first, second = torch.special.ndtri(largest[counted]).unbind(dim=1)
    hinge: Tensor = (gamma - (first - second)).sum() / len(labels)
    return sigma / 2 * hinge
