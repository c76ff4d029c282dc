"""Adversarial training of a smoothed classifier: images that fool its mean prediction under noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative
from robustvit.primitives.training.ascent import Adversary, summed_cross_entropy
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{salman2019provably,
  title={Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers},
  author={Salman, Hadi and Li, Jerry and Razenshteyn, Ilya and Zhang, Pengchuan and Zhang, Huan and Bubeck, Sebastien and Yang, Greg},
  booktitle={Advances in Neural Information Processing Systems},
  year={2019}
}"""


@defense(
    family="certified", source="Salman et al. 2019", url="https://arxiv.org/abs/1906.04584", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Certify with the certificate `gaussian` at the sigma of training. Takes the place of the defense `gaussian`. eps is in pixels "
    "of [0, 1]: the authors' 64 is 64/255.",
)  # fmt: skip
def smoothadv(*, sigma: NonNegative, eps: NonNegative, steps: Count = 10, m: Count = 2, warmup: NonNegative = 10.0) -> Defense:
    """SmoothAdv (Salman et al. 2019): cross-entropy under Gaussian noise of images that ascend −log of the mean of m softmaxes under it.

    sigma: standard deviation of the noise, in pixel units; images with noise are not clipped. eps: l2 radius, in `steps` steps of
    2·eps/steps along the gradient, from the image itself. The same m samples of noise are in all steps, and in the loss, the mean
    cross-entropy of the m copies. warmup: epochs over which eps rises. (steps + 1)·m forward and backward passes a step.
    """
    adversary = Adversary(eps, "l2", steps, 2 * eps / steps if eps else None, warmup)

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        noise = shared_noise(batch, draws, sigma, m)
        smoothed = _Smoothed(model, noise)
        return adversary.ascend(smoothed, batch, lambda _: torch.zeros_like(batch.images), summed_cross_entropy(batch))

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        logits = noisy_logits(model, batch.shown, shared_noise(batch, draws, sigma, m))
        return torch.stack([functional.cross_entropy(one, batch.targets) for one in logits]).mean()

    return Defense("smoothadv", craft=craft, loss=loss)


class _Smoothed(nn.Module):
    """From images to the logarithm of the mean prediction under some noise, (N, K); its softmax is that mean."""

    def __init__(self, model: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.model, self.noise = model, noise

    def forward(self, images: Tensor) -> Tensor:
        logits = noisy_logits(self.model, images, self.noise)
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))


def noisy_logits(model: nn.Module, images: Tensor, noise: Tensor) -> Tensor:
    """(m, N, K) logits of images (N, 3, H, W) under noise (m, N, 3, H, W), in one pass."""
    made: Tensor = model((images + noise).flatten(0, 1))
    return made.view(*noise.shape[:2], -1)


def shared_noise(batch: Batch, draws: Draws, sigma: float, m: int) -> Tensor:
    """Gaussian noise, (m, N, 3, H, W), the same in all parts of a step. draws: of one part, whose stream is the step's and a name."""
    of_step = Draws(draws.seed, draws.stream.rpartition("/")[0], draws.ids, draws.device).at("noise")
    return sigma * torch.stack([of_step.at(copy).normal(*batch.images.shape[1:]) for copy in range(m)]).to(batch.images)
