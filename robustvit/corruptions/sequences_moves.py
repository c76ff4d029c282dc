"""ImageNet-P sequences of geometric transforms: translation, rotation, tilt, shear, scale and zoom. Each corruption computes one frame."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, SOURCE, URL
from robustvit.corruptions.kernels.eight_bit import in_chunks, levels, truncated
from robustvit.corruptions.kernels.warps import Affine, affine, perspective
from robustvit.corruptions.sequences import MIDDLE_FRAME, RULES, Frame
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import corruption

LAST = (
    "The generator transforms the image resized to 256 on its short side and crops the central 224 px last: "
    "apply this to the whole image, or black enters from the edges. "
)
OFFSET = "The fixed point is half a pixel to the right of and below the centre, as in the torchvision (0.2) that the generator used. "

_SHIFT = 20  # the middle frame of translation, which has 41


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST)
def translate_frame(images: Tensor, draws: Draws, *, frame: Annotated[int, Ge(0), Le(40)] = 0) -> Tensor:
    """Translates the image to the right by one pixel per frame, from −20 to 20; frame 20 is the still image."""
    return in_chunks(lambda part: truncated(levels(_translated(part, frame - _SHIFT))), images)


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def rotate_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Rotates the image clockwise by 1° per frame, from −15° to 15°; frame 15 is the still image."""
    return affine(images, _inverse(images, angle=frame - MIDDLE_FRAME))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST)
def tilt_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Tilts the image about both axes by 1° per frame, from −15° to 15°, viewed from a distance of its diagonal.

    Frame 15 is not the still image: the view is one pixel further away, hence the image 0.3 % smaller, as in the released frames.
    """
    return perspective(images, _tilted(*images.shape[-2:], degrees=frame - MIDDLE_FRAME))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def scale_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Scales the image from 0.4 to 1.15 of its size, by 0.025 per frame; frame 24 is the still image."""
    return affine(images, _inverse(images, scale=(frame * 2.5 + 40) / 100.0))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def shear_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Shears the vertical axis by 1° per frame, from −15° to 15°; frame 15 is the still image. One of the four validation sequences."""
    return affine(images, _inverse(images, shear=frame - MIDDLE_FRAME))


@corruption(severity="frame", family="sequence", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES + LAST + OFFSET)
def zoom_blur_frame(images: Tensor, draws: Draws, *, frame: Frame = 0) -> Tensor:
    """Zoom blur: the mean of the image and its enlargements so far, by 1.004 in frame 1 up to 1.12 in frame 30; frame 0 is the still image.

    The sum is in float32, as in the released generator.
    """
    total = truncated(levels(images))
    for step in range(1, frame + 1):
        total.add_(affine(images, _inverse(images, scale=1 + 0.004 * step)))
    return truncated(total.div_(torch.full((), frame + 1.0, device=images.device)).mul_(255.0))


def _translated(images: Tensor, right: int) -> Tensor:
    width = images.shape[-1]
    out = torch.zeros_like(images)
    out[..., max(0, right) : max(0, width + min(0, right))] = images[..., max(0, -right) : max(0, width - max(0, right))]
    return out


def _inverse(images: Tensor, *, angle: float = 0.0, scale: float = 1.0, shear: float = 0.0) -> Affine:
    """The inverse (backward) matrix of a clockwise rotation, scaling and shear about the fixed point; angles in degrees.

    The axes of the image are mapped to (cos a, sin a) and (−sin(a + s), cos(a + s)), times the scale: a shear rotates the vertical axis and
    keeps its length. The order of operations is that of torchvision 0.2, for the same bits.
    """
    x, y = images.shape[-1] * 0.5 + 0.5, images.shape[-2] * 0.5 + 0.5
    turn, lean = math.radians(angle), math.radians(angle) + math.radians(shear)
    area = math.cos(lean) * math.cos(turn) + math.sin(lean) * math.sin(turn)
    factor = 1.0 / scale / area
    a, b, d, e = (factor * part for part in (math.cos(lean), math.sin(lean), -math.sin(turn), math.cos(turn)))
    return a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y


def _tilted(height: int, width: int, *, degrees: int) -> NDArray[np.float64]:
    """The forward matrix (3, 3) of a tilt about both axes through the centre, viewed from a distance of the diagonal."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    focus = np.sqrt(width**2 + height**2)
    centred = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, focus], [0, 0, 0, 1]])
    project = np.array([[focus, 0, width / 2, 0], [0, focus, height / 2, 0], [0, 0, 1, 0]])
    return np.asarray(project @ away @ about_x @ about_y @ centred)
