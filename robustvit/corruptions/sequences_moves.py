"""ImageNet-P's sequences in which the picture moves: shift, turn, tilt, shear, scale and zoom. A corruption makes one frame."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, SOURCE, URL
from robustvit.corruptions.kernels.eight_bit import in_parts, levels, truncated
from robustvit.corruptions.kernels.warps import Affine, affine, perspective
from robustvit.corruptions.sequences import RULES, Frame
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

LAST = (
    "The generator changes the picture resized to 256 on its short side and cuts the middle 224 px last: "
    "give this the whole picture, or black comes in from the edges. "
)
OFFSET = "The fixed point is half a pixel right of and below the middle, as in the torchvision (0.2) that the generator used. "

_MIDDLE = 15  # the frame in which a sequence that goes both ways is half way
_SHIFT = 20  # the same for the shift, which has 41 frames


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST)
def translate_frame(images: Tensor, draws: Draws, *, frame: Annotated[int, Ge(0), Le(40)] = 0) -> Tensor:
    """The picture moves to the right by a pixel a frame, from −20 to 20; in frame 20 it is the still one."""
    return in_parts(lambda part: truncated(levels(_shifted(part, frame - _SHIFT))), images)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def rotate_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The picture turns clockwise by 1° a frame, from −15° to 15°; in frame 15 it is the still one."""
    return affine(images, _inverse(images, angle=frame - _MIDDLE))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST)
def tilt_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The picture tilts about both axes by 1° a frame, from −15° to 15°, seen from as far as its diagonal is long.

    Frame 15 is not the still picture: it is seen from one pixel further, and smaller by 0.3 % for that, here as in the released frames.
    """
    return perspective(images, _tilted(*images.shape[-2:], degrees=frame - _MIDDLE))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def scale_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The picture grows from 0.4 to 1.15 of its size, by 0.025 a frame; in frame 24 it is the still one."""
    return affine(images, _inverse(images, scale=(frame * 2.5 + 40) / 100.0))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def shear_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The vertical leans by 1° a frame, from −15° to 15°; in frame 15 the picture is the still one. One of the four for validation."""
    return affine(images, _inverse(images, shear=frame - _MIDDLE))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def zoom_blur_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """The mean of the picture and of its enlargements so far: by 1.004 in frame 1, up to 1.12 in frame 30. Frame 0 is the still picture.

    The sum is in float32, as in the released generator.
    """
    total = truncated(levels(images))
    for step in range(1, frame + 1):
        total.add_(affine(images, _inverse(images, scale=1 + 0.004 * step)))
    return truncated(total.div_(torch.full((), frame + 1.0, device=images.device)).mul_(255.0))


def _shifted(images: Tensor, right: int) -> Tensor:
    width = images.shape[-1]
    out = torch.zeros_like(images)
    out[..., max(0, right) : max(0, width + min(0, right))] = images[..., max(0, -right) : max(0, width - max(0, right))]
    return out


def _inverse(images: Tensor, *, angle: float = 0.0, scale: float = 1.0, shear: float = 0.0) -> Affine:
    """Where the pixels of a picture come from that is turned clockwise, scaled and sheared, all in degrees, about its fixed point.

    The picture's own axes go to (cos a, sin a) and (−sin(a + s), cos(a + s)), times the scale: a shear turns the vertical, which keeps its
    length. The order of the operations is that of torchvision 0.2, for the same bits.
    """
    x, y = images.shape[-1] * 0.5 + 0.5, images.shape[-2] * 0.5 + 0.5
    turn, lean = math.radians(angle), math.radians(angle) + math.radians(shear)
    area = math.cos(lean) * math.cos(turn) + math.sin(lean) * math.sin(turn)
    factor = 1.0 / scale / area
    a, b, d, e = (factor * part for part in (math.cos(lean), math.sin(lean), -math.sin(turn), math.cos(turn)))
    return a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y


def _tilted(height: int, width: int, *, degrees: int) -> NDArray[np.float64]:
    """Where the pixels of a picture go that is tilted about both axes through its middle and seen from the length of its diagonal."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    focus = np.sqrt(width**2 + height**2)
    centred = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, focus], [0, 0, 0, 1]])
    seen = np.array([[focus, 0, width / 2, 0], [0, focus, height / 2, 0], [0, 0, 1, 0]])
    matrix: NDArray[np.float64] = seen @ away @ about_x @ about_y @ centred
    return matrix
