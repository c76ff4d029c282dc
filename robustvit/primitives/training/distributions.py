"""Draws from the Beta and Dirichlet distributions, keyed by sample, as augmentations mix images by them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import betaincinv, gammaincinv
from torch import Tensor

from robustvit.primitives.draws import Draws

_HALF = 2.0**-25  # half a step of the uniform numbers, which then are never 0


def beta(draws: Draws, a: float, b: float) -> Tensor:
    """(N,) float32 in [0, 1], distributed as Beta(a, b): its quantiles at uniform numbers. a, b: > 0."""
    made = betaincinv(a, b, _uniform(draws, 1)[:, 0])
    return torch.from_numpy(made.astype(np.float32)).to(draws.device)


def dirichlet(draws: Draws, alpha: float, count: int) -> Tensor:
    """(N, count) float32, distributed as Dirichlet(alpha, …, alpha): weights that sum to 1. alpha: from 0.1, below which they vanish.

    They are Gamma(alpha) quantiles at uniform numbers, divided by their sum.
    """
    made = gammaincinv(alpha, _uniform(draws, count))
    return torch.from_numpy((made / made.sum(axis=1, keepdims=True)).astype(np.float32)).to(draws.device)


def _uniform(draws: Draws, count: int) -> np.ndarray:
    return draws.uniform(count).cpu().numpy().astype(np.float64) + _HALF
