"""ImageNet-P's sequences that leave everything in its place: noise, blur and weather. A corruption makes one frame of the still picture.

`frame` is the time. Each frame is a function of (picture, draws, frame) alone, so a clip can be made in any order; what stays the same
through a clip (flakes, drops) is drawn once for all its frames.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import pad

from robustvit.corruptions import weather
from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, SOURCE, URL
from robustvit.corruptions.kernels import colour, filters, poisson
from robustvit.corruptions.kernels.eight_bit import fractions, in_parts, levels, truncated
from robustvit.corruptions.kernels.sampling import zoomed
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

Frame = Annotated[int, Ge(0), Le(30)]
Difficulty = Literal[1, 2, 3]

RULES = (
    "One frame of a sequence of ImageNet-P, by the constants of its released generator; lengths are in pixels, whatever the size. "
    "The released frames are 224 px and were stored as lossy H.264 video: name them when you compare. "
)
FIRST = "The generator cuts the middle 224 px of the picture resized to 256 before this step; here what is given is what is changed. "
MAGICK = (
    "ImageMagick's streaks are made by a kernel of our own: on 8-bit pictures the levels of ImageMagick 6.9.11 (Q16), "
    "but for pictures smaller than the streak, which come out darker. "
)

_SIGMA = (0.03, 0.05, 0.08)
_PHOTONS = (300.0, 120.0, 60.0)
_SPECKLE = (0.05, 0.1, 0.15)
_MIDDLE = 15  # the frame in which a sequence that goes both ways is half way
_STREAK = (10, 3.0)  # radius, sigma
_TRUNCATE = 6.0  # sigmas that a Gaussian blur reaches
_FLAKES = (0.05, 0.3, 3.0, 0.5)  # mean, deviation, enlargement, threshold
_FALL = (14, 4.0)  # radius, sigma of the flakes' streaks
_OWN = 0.85  # share of the picture's own colours under snow
_DROPS = (0.65, 0.27, 3.7, 0.69)  # mean, deviation, sigma of the drops, threshold
_DENSITY = 0.6  # share of the water's colour
_FLOW = (0.7, 0.15, 0.1, 0.05)  # what a pixel gets, from one frame to the next, of the water two above, one above, in it, one below
_DEPTH = 257  # steps of a 16-bit level in an 8-bit one


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def gaussian_noise_frame(images: Tensor, draws: Draws, *, frame: Frame = 0, difficulty: Difficulty = 1) -> Tensor:
    """Frame 0 is the clean picture; every other one has normal noise of its own, of sigma 0.03, 0.05 or 0.08."""
    if frame == 0:
        return in_parts(_clean, images)
    noise = draws.at(f"frame {frame}").normal(*images.shape[1:])
    return in_parts(lambda part, given: _gaussian_noise(part, given, difficulty), images, noise)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def shot_noise_frame(images: Tensor, draws: Draws, *, frame: Frame = 0, difficulty: Difficulty = 1) -> Tensor:
    """Frame 0 is the clean picture; every other one counts photons of its own, 300, 120 or 60 on the mean for white."""
    if frame == 0:
        return in_parts(_clean, images)
    words = draws.at(f"frame {frame}").words(math.prod(images.shape[1:])).view(images.shape)
    photons = _PHOTONS[difficulty - 1]
    return in_parts(lambda part, given: _shot_noise(poisson.counts(levels(part), given, photons), difficulty), images, words)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def speckle_noise_frame(images: Tensor, draws: Draws, *, frame: Frame = 0, difficulty: Difficulty = 1) -> Tensor:
    """Frame 0 is the clean picture; every other one has noise of its own in proportion to brightness. One of the four for validation."""
    if frame == 0:
        return in_parts(_clean, images)
    noise = draws.at(f"frame {frame}").normal(*images.shape[1:])
    return in_parts(lambda part, given: _speckle_noise(part, given, difficulty), images, noise)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST + MAGICK)
def motion_blur_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """A streak of 21 pixels that turns by 4° a frame, from −120° to 0°: blurred from the first frame to the last."""
    return in_parts(lambda part: _motion_blur(part, frame), images)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST)
def gaussian_blur_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """A Gaussian whose sigma grows from 0.25 to 1.3 pixels. One of the four for validation."""
    return in_parts(lambda part: _gaussian_blur(part, frame), images)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST + MAGICK)
def snow_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The same flakes through the whole clip; the wind that streaks them turns by 4° a frame, from −150° to −30°."""
    flakes = draws.at("flakes").normal(*images.shape[-2:])
    return in_parts(lambda part, given: _snow(part, given, frame), images, flakes, rows=1)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def brightness_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """From dark to bright: 0.02 a frame is added to the value of hue, saturation and value, from −0.3 to 0.3.

    Frame 15 adds nothing, but truncation takes a level from some of its colours, here as in the released frames.
    """
    return in_parts(lambda part: _brightness(part, frame), images)


@corruption(severity="frame", family="sequence", version=2, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + FIRST)
def spatter_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The same drops of water through the whole clip, which slowly run. One of the four for validation.

    Where no drop falls, which happens to small pictures, the picture stays as it is; the released generator divides by zero there.
    """
    liquid = draws.at("liquid").normal(*images.shape[-2:])
    return in_parts(lambda part, given: _spatter(part, given, frame), images, liquid)


def _clean(images: Tensor) -> Tensor:
    return truncated(levels(images))


def _gaussian_noise(images: Tensor, noise: Tensor, difficulty: Difficulty) -> Tensor:
    """noise: standard normal, shaped like the images. All is in float32, as in the released generator."""
    return truncated((images + noise * _SIGMA[difficulty - 1]).clamp_(0.0, 1.0).mul_(255.0))


def _shot_noise(counts: Tensor, difficulty: Difficulty) -> Tensor:
    """counts: photons, shaped like the images."""
    return truncated(_divided(counts.double(), _PHOTONS[difficulty - 1]).mul_(255.0))


def _speckle_noise(images: Tensor, noise: Tensor, difficulty: Difficulty) -> Tensor:
    """noise: standard normal, shaped like the images."""
    start = fractions(images)
    return truncated(start.add_(noise.double().mul_(_SPECKLE[difficulty - 1]).mul_(start)).mul_(255.0))


def _motion_blur(images: Tensor, frame: int) -> Tensor:
    return truncated(_streaked(levels(images), 4.0 * (frame - 30), *_STREAK))


def _gaussian_blur(images: Tensor, frame: int) -> Tensor:
    sigma = 0.25 + 0.035 * frame
    return truncated(filters.gaussian(fractions(images), (sigma, sigma), _TRUNCATE, "nearest").mul_(255.0))


def _snow(images: Tensor, flakes: Tensor, frame: int) -> Tensor:
    """flakes: (N, H, W) standard normal. The grey that whitens the picture is in float32, as in the released generator."""
    mean, deviation, factor, threshold = _FLAKES
    layer = _middle(zoomed((flakes.double() * deviation + mean)[:, None], factor), images)
    layer = torch.where(layer < threshold, 0.0, layer).clamp_(0.0, 1.0).mul_(255.0).floor_()
    layer = _divided(_streaked(layer, 4.0 * frame - 150.0, *_FALL), 255.0)
    start = fractions(images)
    white = torch.maximum(start, (colour.luma(start.float()) * 1.5 + 0.5).double())
    picture = (start * _OWN).add_(white.mul_(1 - _OWN))
    return truncated((picture + layer + layer.flip(2, 3)).mul_(255.0))


def _brightness(images: Tensor, frame: int) -> Tensor:
    hue, saturation, value = colour.to_hsv(fractions(images))
    more = (frame - _MIDDLE) * 2 / 100.0
    return truncated(colour.to_rgb(hue, saturation, (value + more).clamp_(0.0, 1.0)).mul_(255.0))


def _spatter(images: Tensor, liquid: Tensor, frame: int) -> Tensor:
    """liquid: (N, H, W) standard normal. The picture is in float32, as in the released generator."""
    mean, deviation, sigma, threshold = _DROPS
    layer = filters.gaussian((liquid.double() * deviation + mean)[:, None], (sigma, sigma), 4.0, "nearest")[:, 0]
    layer = torch.where(layer < threshold, 0.0, layer)
    for _ in range(frame):
        layer = _run_down(layer)
    return weather.rain(fractions(images).float(), layer, _DENSITY)


def _streaked(layer: Tensor, angle: float, radius: int, sigma: float) -> Tensor:
    """Streaks of (N, C, H, W) levels along one angle in degrees: a level of 16 bits, rounded, and of that the upper 8 bits' level."""
    fine = filters.motion(layer, [angle] * len(layer), radius, sigma).mul_(_DEPTH).add_(0.5).long()
    return fine.div_(_DEPTH, rounding_mode="floor").double()


def _middle(layer: Tensor, images: Tensor) -> Tensor:
    """The middle of a layer that is at least as large as an image."""
    height, width = images.shape[-2:]
    top, left = ((side - kept) // 2 for side, kept in zip(layer.shape[-2:], (height, width), strict=True))
    return layer[..., top : top + height, left : left + width]


def _run_down(layer: Tensor) -> Tensor:
    """The water (N, H, W) one frame later; nothing comes in at the edges."""
    height = layer.shape[-2]
    padded = pad(layer, (0, 0, 2, 1))
    total = torch.zeros_like(layer)
    for row, weight in enumerate(_FLOW):
        total.add_(padded[:, row : row + height] * weight)
    return total


def _divided(values: Tensor, divisor: float) -> Tensor:
    """A division in place. The divisor is a tensor: a CUDA device would multiply by the rounded reciprocal of a plain number."""
    return values.div_(torch.full((), divisor, dtype=values.dtype, device=values.device))
