"""Out-of-distribution scores of logits alone: the higher, the less an image looks like the data that a model knows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_GAMMA, _LARGEST = 0.1, 100  # of GEN, as its authors set them for ImageNet


def msp(logits: Tensor) -> Tensor:
    """(N,) 1 − the maximum softmax probability (Hendrycks and Gimpel 2017), as the sum of the others, which does not round to 0."""
    others = logits.scatter(1, logits.argmax(dim=1, keepdim=True), -torch.inf)
    return (others.logsumexp(dim=1) - logits.logsumexp(dim=1)).exp()


def max_logit(logits: Tensor) -> Tensor:
    """(N,) minus the largest logit (Hendrycks et al. 2022, Scaling Out-of-Distribution Detection for Real-World Settings)."""
    return -logits.amax(dim=1)


def energy(logits: Tensor) -> Tensor:
    """(N,) −log Σ exp(logit), the free energy at temperature 1 (Liu et al. 2020)."""
    return -logits.logsumexp(dim=1)


def entropy(logits: Tensor) -> Tensor:
    """(N,) entropy of the softmax probabilities, in nats."""
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def gen(logits: Tensor) -> Tensor:
    """(N,) generalised entropy Σ pᵞ(1 − p)ᵞ of the 100 largest probabilities, γ = 0.1 (Liu, Lochman and Zach 2023, GEN)."""
    log_p = torch.log_softmax(logits, dim=1).topk(min(_LARGEST, logits.shape[1]), dim=1).values
    others = torch.cat([msp(logits)[:, None], -torch.expm1(log_p[:, 1:])], dim=1)  # 1 − p, of the largest p without rounding
    return (log_p.exp() * others).pow(_GAMMA).sum(dim=1)


LOGIT_SCORES: dict[str, Callable[[Tensor], Tensor]] = {one.__name__: one for one in (msp, max_logit, energy, entropy, gen)}
"""By name; each takes (N, K) float64 logits."""
