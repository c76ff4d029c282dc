"""Weather: snow, frost, fog, brightness and spatter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, PORT_CITATION, PORT_RULES, PORT_SOURCE, PORT_URL, RULES, SOURCE, URL
from robustvit.corruptions.kernels import colour, edges, filters
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, levels, truncated
from robustvit.corruptions.kernels.plasma import plasma_fractal
from robustvit.corruptions.kernels.sampling import zoom
from robustvit.corruptions.kernels.textures import FILES, covering_photograph, frost_texture
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

_SNOW = (  # mean, deviation, zoom, threshold, streak radius, streak sigma, weight of the image's own colours
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
_FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of the image and of the ice
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # thickness, decay of the roughness
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_LIQUID = (  # mean, deviation, sigma of the drops, threshold
    (0.65, 0.3, 4.0, 0.69),
    (0.65, 0.3, 3.0, 0.68),
    (0.65, 0.3, 2.0, 0.68),
    (0.65, 0.3, 1.0, 0.65),
    (0.67, 0.4, 1.0, 0.65),
)
_WATER, _DENSITY = (175 / 255.0, 238 / 255.0, 238 / 255.0), (0.6, 0.6, 0.5)  # pale turquoise; its weight at severities 1 … 3
_MUD, _SPLASH, _THICK = (63 / 255.0, 42 / 255.0, 20 / 255.0), 1.5, 0.8  # brown; sigma and threshold of the splashes at 4 and 5
_REACH = 20.0  # pixels: distances to the edge of a drop are clipped here
_BOX = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
_RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


@corruption(version=2, severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def snow(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Snow: motion-blurred flakes over a whitened image; the layer is added twice, the second time rotated by 180°.

    Severities 2 and 3 differ in kind (many small flakes, fewer large ones): the error need not increase between them.
    """
    flakes = draws.at("flakes").normal(*images.shape[-2:])
    angles = draws.at("wind").uniform(low=-135.0, high=-45.0)
    return in_chunks(lambda part, *given: _snow(part, *given, severity=severity), images, flakes, angles)


@corruption(severity="severity", family="weather", version=2, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def frost(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Frost: a random crop of one of five photographs of ice is blended with the image.

    As in the released ImageNet-C the photographs keep their size. Larger images, at which the released generator fails, get them enlarged.
    """
    return _frosted(images, draws, severity, covering_photograph)


@corruption(
    severity="severity", family="weather", source=PORT_SOURCE, url=PORT_URL, licence=LICENCE, citation=PORT_CITATION, rules=PORT_RULES
)
def frost_imagecorruptions(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Frost as imagecorruptions defines it: the photographs are enlarged by a tenth first. Version 1 of `frost`, with its draws."""
    return _frosted(images, Draws(draws.seed, "corruption/frost", draws.ids, draws.device), severity, frost_texture)


@corruption(severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def fog(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Fog: a plasma fractal is added, and the sum is scaled to the image's brightest value."""
    size = _map_size(images)
    noise = draws.at("clouds").uniform(size * size - 1)
    return in_chunks(lambda part, given: _fog(part, given, severity), images, noise)


@corruption(severity="severity", family="weather", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def brightness(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Increases brightness: the V channel of HSV grows by 0.1 … 0.5."""
    return in_chunks(lambda part: _brightness(part, severity), images)


@corruption(severity="severity", family="weather", version=2, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def spatter(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Spatter: rain (severities 1 to 3) or mud (4 and 5) on the lens. One of the four extra corruptions.

    An image without any drop, which is possible for small images, is unchanged; the released generator divides by zero there.
    """
    liquid = draws.at("liquid").normal(*images.shape[-2:])
    return in_chunks(lambda part, given: _spatter(part, given, severity), images, liquid)


def _snow(images: Tensor, flakes: Tensor, angles: Tensor, *, severity: Severity) -> Tensor:
    """flakes: (N, H, W) standard normal. angles: (N,) degrees. The image is whitened in float32, as in the released generator."""
    mean, deviation, factor, threshold, radius, sigma, share = _SNOW[severity - 1]
    height, width = images.shape[-2:]
    layer = zoom((flakes.double() * deviation + mean)[:, None], factor)
    layer = torch.where(layer < threshold, 0.0, layer).clamp_(0.0, 1.0)
    layer = filters.motion_blur(layer, angles.tolist(), radius, sigma)
    layer = layer.mul_(255.0).round_().div_(255.0)[..., :height, :width]
    start = fractions(images).float()
    white = torch.maximum(start, colour.luma(start) * 1.5 + 0.5)
    whitened = (start * share + white * (1 - share)).double()
    return truncated((whitened + layer + layer.flip(2, 3)).mul_(255.0), images.dtype)


def _frosted(images: Tensor, draws: Draws, severity: Severity, texture: Callable[[int, int, int], Tensor]) -> Tensor:
    indices = draws.at("texture").integers(low=0, high=len(FILES)).tolist()
    places = draws.at("place").words(2).tolist()
    ice = [_ice(texture(index, *images.shape[-2:]), place, images) for index, place in zip(indices, places, strict=True)]
    return in_chunks(lambda part, given: _frost(part, given, severity), images, torch.stack(ice)) if ice else images.clone()


def _ice(texture: Tensor, place: list[int], images: Tensor) -> Tensor:
    """The part of a texture, as large as an image, that two random words place."""
    top, left = ((word * room) >> 32 for word, room in zip(place, _room(texture, images), strict=True))
    return _cut(texture, top, left, images)


def _room(texture: Tensor, images: Tensor) -> tuple[int, int]:
    """How many rows and columns a cut as large as an image can be moved by."""
    return texture.shape[1] - images.shape[-2], texture.shape[2] - images.shape[-1]


def _cut(texture: Tensor, top: int, left: int, images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return texture[:, top : top + height, left : left + width].to(images.device)


def _frost(images: Tensor, ice: Tensor, severity: Severity) -> Tensor:
    """ice: (N, 3, H, W) uint8."""
    own, frozen = _FROST[severity - 1]
    return truncated(levels(images).mul_(own).add_(ice.double().mul_(frozen)), images.dtype)


def _map_size(images: Tensor) -> int:
    """The smallest power of two that is at least the longer side."""
    return 1 << (max(images.shape[-2:]) - 1).bit_length()


def _fog(images: Tensor, noise: Tensor, severity: Severity) -> Tensor:
    """noise: (N, size² − 1) uniform in [0, 1), size the smallest power of two that is at least the longer side."""
    thickness, decay = _FOG[severity - 1]
    height, width = images.shape[-2:]
    veil = plasma_fractal(noise, math.isqrt(noise.shape[1] + 1), decay)[:, :height, :width] * thickness
    brightest = fractions(images.amax(dim=(1, 2, 3))[:, None, None])
    veiled = (fractions(plane).add_(veil).mul_(brightest).div_(brightest + thickness).mul_(255.0) for plane in images.unbind(1))
    return torch.stack([truncated(values, images.dtype) for values in veiled], dim=1)


def _brightness(images: Tensor, severity: Severity) -> Tensor:
    return add_brightness(images, _BRIGHTER[severity - 1])


def add_brightness(images: Tensor, amount: float) -> Tensor:
    """Adds `amount`, of any sign, to the V channel of HSV, clips it to [0, 1] and truncates to 8 bits."""
    hue, saturation, value = colour.to_hsv(fractions(images))
    return truncated(colour.to_rgb(hue, saturation, (value + amount).clamp_(0.0, 1.0)).mul_(255.0), images.dtype)


def _spatter(images: Tensor, liquid: Tensor, severity: Severity) -> Tensor:
    """liquid: (N, H, W) standard normal. The image is in float32, as in the released generator."""
    mean, deviation, sigma, threshold = _LIQUID[severity - 1]
    layer = filters.gaussian_blur((liquid.double() * deviation + mean)[:, None], (sigma, sigma), 4.0, "nearest")[:, 0]
    start = fractions(images).float()
    if severity <= len(_DENSITY):
        return truncated(rain(start, torch.where(layer < threshold, 0.0, layer), _DENSITY[severity - 1]), images.dtype)
    return truncated(_splashed(start, layer > threshold), images.dtype)


def rain(start: Tensor, layer: Tensor, density: float) -> Tensor:
    """Levels of `start` (N, 3, H, W) float32 with water drops on it.

    layer: (N, H, W) float64, amount of water. density: maximum weight of its colour.

    Brightness follows the height of a drop, which grows with the distance to its edge. The amount is converted to bytes, as in the released
    generator, so that values above 255 wrap around to 0: near the border of at most one image in a hundred.
    """
    levels = (layer * 255.0).floor_().remainder_(256.0)
    near = edges.distance_transform(edges.canny(levels), _REACH).double()
    height = edges.equalize_histogram(edges.filter_3x3(near, _BOX).mul_(1 / 9.0).floor_())
    relief = edges.filter_3x3(height, _RELIEF).clamp_(0.0, 255.0)
    water = levels.float() * edges.filter_3x3(relief, _BOX).div_(9.0).round_()
    share = water.div_(water.amax(dim=(1, 2), keepdim=True).clamp_(min=1.0)).mul_(density)
    return (start + share[:, None] * _colour(_WATER, start)).clamp_(0.0, 1.0).mul_(255.0)


def _splashed(start: Tensor, mud: Tensor) -> Tensor:
    """Levels. mud: (N, H, W) bool. Mud is drawn where its blurred mask exceeds a threshold."""
    share = filters.gaussian_blur(mud[:, None].double(), (_SPLASH, _SPLASH), 4.0, "nearest", rounded=torch.float32).float()
    share = torch.where(share < _THICK, 0.0, share)
    return (start * (1 - share) + share.double() * _colour(_MUD, share.double())).mul_(255.0)


def _colour(levels: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(levels, dtype=like.dtype, device=like.device)[:, None, None]
