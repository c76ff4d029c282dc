"""Noise: Gaussian, shot, impulse and speckle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels import poisson
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, in_strips, levels, truncated, truncated_pixels
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_SIGMA = (0.08, 0.12, 0.18, 0.26, 0.38)
_PHOTONS = (60.0, 25.0, 12.0, 5.0, 3.0)
_AMOUNT = (0.03, 0.06, 0.09, 0.17, 0.27)
_SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)


@corruption(severity="severity", family="noise", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def gaussian_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Gaussian noise, independent for every channel of every pixel."""
    noise = draws.at("noise").normal(*images.shape[1:])
    return in_strips(lambda part, given: _gaussian_noise(part, given, severity), images, noise)


@corruption(severity="severity", family="noise", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def shot_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Shot noise: every channel of every pixel becomes a Poisson photon count of mean 60 … 3 for white.

    Counts invert the distribution function, so that for the same draw a brighter pixel or a lower severity never has fewer photons.
    """
    words = draws.at("photons").words(math.prod(images.shape[1:])).view(images.shape)
    photons = _PHOTONS[severity - 1]
    return in_chunks(lambda part, given: _shot_noise(poisson.counts(levels(part), given, photons), severity), images, words)


@corruption(severity="severity", family="noise", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def impulse_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Salt-and-pepper noise: a fraction of the channel values becomes 1 or 0, each with probability one half."""
    hit = draws.at("hit").uniform(*images.shape[1:])
    salt = draws.at("salt").uniform_where(hit <= _AMOUNT[severity - 1])
    return in_strips(lambda part, *given: _impulse_noise(part, *given, severity=severity), images, hit, salt)


@corruption(severity="severity", family="noise", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def speckle_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Speckle noise: Gaussian noise proportional to the channel value. One of the four extra corruptions."""
    noise = draws.at("noise").normal(*images.shape[1:])
    return in_strips(lambda part, given: _speckle_noise(part, given, severity), images, noise)


def _gaussian_noise(images: Tensor, noise: Tensor, severity: Severity) -> Tensor:
    """noise: standard normal, shaped like the images."""
    return truncated(fractions(images).add_(noise.double().mul_(_SIGMA[severity - 1])).mul_(255.0), images.dtype)


def _shot_noise(counts: Tensor, severity: Severity, dtype: torch.dtype = torch.float32) -> Tensor:
    """counts: photons, shaped like the images. dtype: that of the images."""
    return truncated(counts.double().div_(_PHOTONS[severity - 1]).mul_(255.0), dtype)


def _impulse_noise(images: Tensor, hit: Tensor, salt: Tensor, *, severity: Severity) -> Tensor:
    """hit, salt: uniform in [0, 1), shaped like the images; values with hit ≤ amount are replaced, by 1 where salt ≤ 1/2."""
    if images.dtype == torch.uint8:
        return torch.where(hit <= _AMOUNT[severity - 1], (salt <= 0.5).to(torch.uint8).mul_(255), images)
    replaced, white = hit.clone().le_(_AMOUNT[severity - 1]), salt.clone().le_(0.5)  # 0 and 1 in float: faster than bool and torch.where
    return torch.lerp(truncated_pixels(images), white.to(images.dtype), replaced.to(images.dtype))


def _speckle_noise(images: Tensor, noise: Tensor, severity: Severity) -> Tensor:
    return add_speckle(images, noise, _SPECKLE[severity - 1])


def add_speckle(images: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Adds noise in proportion to the channel values and truncates to 8 bits. noise: standard normal, shaped like the images."""
    start = fractions(images)
    return truncated(start.add_(noise.double().mul_(sigma).mul_(start)).mul_(255.0), images.dtype)
