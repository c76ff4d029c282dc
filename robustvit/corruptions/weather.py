"""Weather: snow, frost, fog and brightness."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustvit.batch import Severity
from robustvit.corruptions import colour, filters
from robustvit.corruptions.grid import fractions, in_parts, levels, truncated
from robustvit.corruptions.paper import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.plasma import clouds
from robustvit.corruptions.sampling import zoomed
from robustvit.corruptions.textures import FILES, frost_texture
from robustvit.draws import Draws
from robustvit.registry import corruption

_SNOW = (  # mean, deviation, enlargement, threshold, streak radius, streak sigma, share of the picture's own colours
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
_FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # shares of the picture and of the ice
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # thickness, decay of the roughness
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)


@corruption(severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def snow(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Flakes streaked by the wind over a whitened picture; the layer falls twice, the second time turned by 180°.

    Severities 2 and 3 differ in kind (many small flakes, fewer large ones): error need not rise between them.
    """
    flakes = draws.at("flakes").normal(*images.shape[-2:])
    angles = draws.at("wind").uniform(low=-135.0, high=-45.0)
    return in_parts(lambda part, *given: _snow(part, *given, severity=severity), images, flakes, angles, rows=1)


@corruption(severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def frost(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """A random part of one of five photographs of ice, laid over the picture."""
    indices = draws.at("texture").integers(low=0, high=len(FILES)).tolist()
    places = draws.at("place").words(2).tolist()
    ice = [_cut(frost_texture(index, *images.shape[-2:]), place, images) for index, place in zip(indices, places, strict=True)]
    return in_parts(lambda part, given: _frost(part, given, severity), images, torch.stack(ice)) if ice else images.clone()


@corruption(severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def fog(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Clouds in front of the picture, as bright as its brightest value."""
    size = 1 << (max(images.shape[-2:]) - 1).bit_length()
    noise = draws.at("clouds").uniform(size * size - 1)
    return in_parts(lambda part, given: _fog(part, given, severity), images, noise)


@corruption(severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def brightness(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """More light: the value of hue, saturation and value grows by 0.1 … 0.5."""
    return in_parts(lambda part: _brightness(part, severity), images)


def _snow(images: Tensor, flakes: Tensor, angles: Tensor, *, severity: Severity) -> Tensor:
    """flakes: (N, H, W) standard normal. angles: (N,) degrees. The picture is whitened in float32, as in the released generator."""
    mean, deviation, factor, threshold, radius, sigma, share = _SNOW[severity - 1]
    height, width = images.shape[-2:]
    layer = zoomed((flakes.double() * deviation + mean)[:, None], factor)
    layer = torch.where(layer < threshold, 0.0, layer).clamp_(0.0, 1.0)
    layer = filters.motion(layer, angles.tolist(), radius, sigma)
    layer = layer.mul_(255.0).round_().div_(255.0)[..., :height, :width]
    start = fractions(images).float()
    white = torch.maximum(start, colour.luma(start) * 1.5 + 0.5)
    picture = (start * share + white * (1 - share)).double()
    return truncated((picture + layer + layer.flip(2, 3)).mul_(255.0))


def _cut(texture: Tensor, place: list[int], images: Tensor) -> Tensor:
    """The part of a texture, as large as an image, that two random words place."""
    height, width = images.shape[-2:]
    top, left = ((word * room) >> 32 for word, room in zip(place, (texture.shape[1] - height, texture.shape[2] - width), strict=True))
    return texture[:, top : top + height, left : left + width].to(images.device)


def _frost(images: Tensor, ice: Tensor, severity: Severity) -> Tensor:
    """ice: (N, 3, H, W) uint8."""
    own, frozen = _FROST[severity - 1]
    return truncated(levels(images).mul_(own).add_(ice.double().mul_(frozen)))


def _fog(images: Tensor, noise: Tensor, severity: Severity) -> Tensor:
    """noise: (N, size² − 1) uniform in [0, 1), size the power of two that holds the longer side."""
    thickness, decay = _FOG[severity - 1]
    height, width = images.shape[-2:]
    heights = clouds(noise, math.isqrt(noise.shape[1] + 1), decay)[:, None, :height, :width]
    start = fractions(images)
    brightest = start.amax(dim=(1, 2, 3), keepdim=True)
    return truncated(start.add_(heights * thickness).mul_(brightest).div_(brightest + thickness).mul_(255.0))


def _brightness(images: Tensor, severity: Severity) -> Tensor:
    hue, saturation, value = colour.to_hsv(fractions(images))
    return truncated(colour.to_rgb(hue, saturation, (value + _BRIGHTER[severity - 1]).clamp_(max=1.0)).mul_(255.0))
