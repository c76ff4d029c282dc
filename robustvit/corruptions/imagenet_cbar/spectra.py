"""Coloured noise of ImageNet-C̄: blue noise that blackens pixels, and additive brownish noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_cbar.imagenet_cbar_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels.coordinates import longer_side
from robustvit.corruptions.kernels.eight_bit import in_chunks, levels, truncated
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_THRESHOLD = (-2.26, -2.02, -1.78, -1.3, -0.82)  # standard deviations: the strengths 0.8, 1.6, 2.4, 4, 5.6 of ten times 3, minus 2.5
_DEVIATION = (6.4, 12.8, 19.2, 25.6, 32.0)  # levels: 1 … 5 of ten times 64


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def blue_noise_sample(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Blue-noise sampling: pixels become black where noise whose amplitude grows with frequency is far below its mean."""
    return in_chunks(lambda part, given: _blue_noise_sample(part, given, severity), images, _phases(images, draws, 1), rows=1)


@corruption(severity="severity", family="c-bar", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def brownish_noise(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Adds coloured noise whose amplitude falls with the square of the frequency."""
    return in_chunks(lambda part, given: _brownish_noise(part, given, severity), images, _phases(images, draws, 3), rows=1)


def _phases(images: Tensor, draws: Draws, fields: int) -> Tensor:
    """(N, fields, side, side / 2) radians; the side is even and at least the longer side of the image."""
    half = (longer_side(images) + 1) // 2
    return draws.at("phases").uniform(fields, 2 * half, half, high=2.0 * math.pi)


def _blue_noise_sample(images: Tensor, phases: Tensor, severity: Severity) -> Tensor:
    noise = _field(_distance(phases), phases)[..., : images.shape[-2], : images.shape[-1]]
    return truncated(levels(images).mul_(noise > _THRESHOLD[severity - 1]))


def _brownish_noise(images: Tensor, phases: Tensor, severity: Severity) -> Tensor:
    noise = _field(1.0 / (_distance(phases).square() + 1.0), phases)[..., : images.shape[-2], : images.shape[-1]]
    return truncated(levels(images).add_(noise * _DEVIATION[severity - 1]))


def _distance(phases: Tensor) -> Tensor:
    """(side, side) float64: distance of each entry of the spectrum from its centre, in cycles per side."""
    half = phases.shape[-1]
    at = torch.arange(-half, half, dtype=torch.float64, device=phases.device)
    return (at[:, None].square() + at[None, :].square()).sqrt_()


def _field(amplitude: Tensor, phases: Tensor) -> Tensor:
    """The real part of the inverse Fourier transform, scaled to standard deviation 1; (N, fields, side, side) float64.

    Phases are point-reflected about the corner between the four central entries, as in the released generator: half an entry away from
    frequency 0, so that the field has an imaginary part, which is dropped.
    """
    half = phases.shape[-1]
    mirrored = torch.cat((phases, phases.flip(-2, -1)), dim=-1).double()
    spectrum = torch.polar(amplitude.expand_as(mirrored).contiguous(), mirrored).roll((half, half), (-2, -1))
    noise: Tensor = torch.fft.ifft2(spectrum).real
    return noise / noise.std(dim=(-2, -1), correction=0, keepdim=True)
