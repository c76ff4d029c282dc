"""ImageNet-P sequences of noise, blur and weather. Each corruption computes one frame from the still image.

`frame` is the time. A frame depends on (image, draws, frame) alone, so the frames of a clip can be computed in any order; whatever is
constant within a clip (flakes, drops) is drawn once for all its frames.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import pad

from robustvit.corruptions import weather
from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, SOURCE, URL
from robustvit.corruptions.kernels import colour, filters, poisson
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, levels, truncated
from robustvit.corruptions.kernels.sampling import zoom
from robustvit.corruptions.noise import add_speckle
from robustvit.primitives.batch import Difficulty
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

Frame = Annotated[int, Ge(0), Le(30)]

RULES = (
    "One frame of a sequence of ImageNet-P, with the constants of its released generator; lengths are in pixels at any size. "
    "The released frames are 224 px and were stored as lossy H.264 video: say which ones you used when you compare. "
)
FIRST = "The generator crops the central 224 px of the image resized to 256 before this step; here the image is changed as given. "
MAGICK = (
    "ImageMagick's motion blur is reimplemented: on 8-bit images it gives the levels of ImageMagick 6.9.11 (Q16), "
    "except for images smaller than the kernel, which become darker. "
)

_SIGMA = (0.03, 0.05, 0.08)
_PHOTONS = (300.0, 120.0, 60.0)
_SPECKLE = (0.05, 0.1, 0.15)
MIDDLE_FRAME = 15  # the middle frame of a sequence that goes both ways
_STREAK = (10, 3.0)  # radius, sigma
_TRUNCATE = 6.0  # sigmas that a Gaussian blur reaches
_FLAKES = (0.05, 0.3, 3.0, 0.5)  # mean, deviation, enlargement, threshold
_FALL = (14, 4.0)  # radius, sigma of the flakes' streaks
_OWN = 0.85  # weight of the image's own colours under snow
_DROPS = (0.65, 0.27, 3.7, 0.69)  # mean, deviation, sigma of the drops, threshold
_DENSITY = 0.6  # weight of the water's colour
_FLOW = (0.7, 0.15, 0.1, 0.05)  # weights, from one frame to the next, of the water two pixels above, one above, in place and one below
_DEPTH = 257  # 16-bit levels per 8-bit level


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def gaussian_noise_frame(images: Tensor, draws: Draws, *, frame: Frame = 0, difficulty: Difficulty = 1) -> Tensor:
    """Gaussian noise of sigma 0.03, 0.05 or 0.08, redrawn for each frame; frame 0 is the clean image."""
    if frame == 0:
        return in_chunks(_clean, images)
    noise = draws.at(f"frame {frame}").normal(*images.shape[1:])
    return in_chunks(lambda part, given: _gaussian_noise(part, given, difficulty), images, noise)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def shot_noise_frame(images: Tensor, draws: Draws, *, frame: Frame = 0, difficulty: Difficulty = 1) -> Tensor:
    """Shot noise of 300, 120 or 60 photons on average for white, redrawn for each frame; frame 0 is the clean image."""
    if frame == 0:
        return in_chunks(_clean, images)
    words = draws.at(f"frame {frame}").words(math.prod(images.shape[1:])).view(images.shape)
    photons = _PHOTONS[difficulty - 1]
    return in_chunks(lambda part, given: _shot_noise(poisson.counts(levels(part), given, photons), difficulty), images, words)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def speckle_noise_frame(images: Tensor, draws: Draws, *, frame: Frame = 0, difficulty: Difficulty = 1) -> Tensor:
    """Speckle noise, redrawn for each frame; frame 0 is the clean image. One of the four validation sequences."""
    if frame == 0:
        return in_chunks(_clean, images)
    noise = draws.at(f"frame {frame}").normal(*images.shape[1:])
    return in_chunks(lambda part, given: add_speckle(part, given, _SPECKLE[difficulty - 1]), images, noise)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST + MAGICK)
def motion_blur_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Motion blur of 21 pixels whose direction rotates by 4° per frame, from −120° to 0°; all frames are blurred."""
    return in_chunks(lambda part: _motion_blur(part, frame), images)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST)
def gaussian_blur_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Gaussian blur whose sigma grows from 0.25 to 1.3 pixels. One of the four validation sequences."""
    return in_chunks(lambda part: _gaussian_blur(part, frame), images)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST + MAGICK)
def snow_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Snow: the same flakes in all frames; the direction of their motion blur rotates by 4° per frame, from −150° to −30°."""
    flakes = draws.at("flakes").normal(*images.shape[-2:])
    return in_chunks(lambda part, given: _snow(part, given, frame), images, flakes, rows=1)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def brightness_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Brightness from dark to bright: −0.3 to 0.3, in steps of 0.02 per frame, is added to the V channel of HSV.

    Frame 15 adds nothing, but truncation lowers some of its colours by a level, as in the released frames.
    """
    return in_chunks(lambda part: weather.add_brightness(part, (frame - MIDDLE_FRAME) * 2 / 100.0), images)


@corruption(severity="frame", family="sequence", version=2, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST)
def spatter_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Spatter: the same water drops in all frames, which slowly run down. One of the four validation sequences.

    An image without any drop, which is possible for small images, is unchanged; the released generator divides by zero there.
    """
    liquid = draws.at("liquid").normal(*images.shape[-2:])
    return in_chunks(lambda part, given: _spatter(part, given, frame), images, liquid)


def _clean(images: Tensor) -> Tensor:
    return truncated(levels(images))


def _gaussian_noise(images: Tensor, noise: Tensor, difficulty: Difficulty) -> Tensor:
    """noise: standard normal, shaped like the images. Everything is in float32, as in the released generator."""
    return truncated((images + noise * _SIGMA[difficulty - 1]).clamp_(0.0, 1.0).mul_(255.0))


def _shot_noise(counts: Tensor, difficulty: Difficulty) -> Tensor:
    """counts: photons, shaped like the images."""
    return truncated(_divided(counts.double(), _PHOTONS[difficulty - 1]).mul_(255.0))


def _motion_blur(images: Tensor, frame: int) -> Tensor:
    return truncated(_motion_blur_16_bit(levels(images), 4.0 * (frame - 30), *_STREAK))


def _gaussian_blur(images: Tensor, frame: int) -> Tensor:
    sigma = 0.25 + 0.035 * frame
    return truncated(filters.gaussian_blur(fractions(images), (sigma, sigma), _TRUNCATE, "nearest").mul_(255.0))


def _snow(images: Tensor, flakes: Tensor, frame: int) -> Tensor:
    """flakes: (N, H, W) standard normal. The grey that whitens the image is in float32, as in the released generator."""
    mean, deviation, factor, threshold = _FLAKES
    layer = _center_crop(zoom((flakes.double() * deviation + mean)[:, None], factor), images)
    layer = torch.where(layer < threshold, 0.0, layer).clamp_(0.0, 1.0).mul_(255.0).floor_()
    layer = _divided(_motion_blur_16_bit(layer, 4.0 * frame - 150.0, *_FALL), 255.0)
    start = fractions(images)
    white = torch.maximum(start, (colour.luma(start.float()) * 1.5 + 0.5).double())
    whitened = (start * _OWN).add_(white.mul_(1 - _OWN))
    return truncated((whitened + layer + layer.flip(2, 3)).mul_(255.0))


def _spatter(images: Tensor, liquid: Tensor, frame: int) -> Tensor:
    """liquid: (N, H, W) standard normal. The image is in float32, as in the released generator."""
    mean, deviation, sigma, threshold = _DROPS
    layer = filters.gaussian_blur((liquid.double() * deviation + mean)[:, None], (sigma, sigma), 4.0, "nearest")[:, 0]
    layer = torch.where(layer < threshold, 0.0, layer)
    for _ in range(frame):
        layer = _run_down(layer)
    return truncated(weather.rain(fractions(images).float(), layer, _DENSITY))


def _motion_blur_16_bit(layer: Tensor, angle: float, radius: int, sigma: float) -> Tensor:
    """Motion blur of (N, C, H, W) levels at an angle in degrees, rounded to 16 bits and then reduced to 8 bits, as in ImageMagick."""
    fine = filters.motion_blur(layer, [angle] * len(layer), radius, sigma).mul_(_DEPTH).add_(0.5).long()
    return fine.div_(_DEPTH, rounding_mode="floor").double()


def _center_crop(layer: Tensor, images: Tensor) -> Tensor:
    """The central crop of a layer, of the size of the images."""
    height, width = images.shape[-2:]
    top, left = ((side - kept) // 2 for side, kept in zip(layer.shape[-2:], (height, width), strict=True))
    return layer[..., top : top + height, left : left + width]


def _run_down(layer: Tensor) -> Tensor:
    """The water (N, H, W) one frame later; none enters at the edges."""
    height = layer.shape[-2]
    padded = pad(layer, (0, 0, 2, 1))
    total = torch.zeros_like(layer)
    for row, weight in enumerate(_FLOW):
        total.add_(padded[:, row : row + height] * weight)
    return total


def _divided(values: Tensor, divisor: float) -> Tensor:
    """Divides in place, by a tensor: a CUDA device would multiply by the rounded reciprocal of a Python number."""
    return values.div_(torch.full((), divisor, dtype=values.dtype, device=values.device))
