"""Digital: contrast, elastic deformation, pixelation, JPEG compression and saturation."""

from __future__ import annotations

import io
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels import codec, colour, filters
from robustvit.corruptions.kernels.eight_bit import fractions, in_parts, levels, truncated
from robustvit.corruptions.kernels.pillow_resize import shrinking
from robustvit.corruptions.kernels.sampling import sampled
from robustvit.primitives import compiled
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.spec.registry import corruption

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_CODEC_LOOPS = "robustvit.corruptions.kernels.codec_loops"
_KEPT = (0.4, 0.3, 0.2, 0.1, 0.05)
_STRETCH = (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12)
_SMOOTH, _PUSH = 0.01, 0.005  # of the sides: the sigma and the largest displacement before the stretch
_SHRUNK = (0.6, 0.5, 0.4, 0.3, 0.25)
_QUALITY = (25, 18, 15, 10, 7)
_SATURATION = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))  # factor, addend
_FINE = 1 << 24  # parts of a level that sums are counted in; 2**24 of them for 2**20 pixels stay within int64


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def contrast(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Less contrast: every channel shrinks towards its mean, to 0.4 … 0.05 of its spread."""
    return in_parts(lambda part: _contrast(part, severity), images)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def elastic_transform(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """A picture on rubber: every pixel is fetched from a smooth random displacement away.

    This is the algorithm of imagecorruptions, which has no affine part; that of the released ImageNet-C differs.
    """
    across, down = (draws.at(purpose).uniform(*images.shape[-2:]) for purpose in ("across", "down"))
    return in_parts(lambda part, *given: _elastic_transform(part, *given, severity=severity), images, across, down)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def pixelate(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Fewer, larger pixels: shrunk by averaging to 0.6 … 0.25 of the sides, enlarged by repetition. As Pillow does it, on the CPU.

    Pixels off the 8-bit grid are rounded to it first.
    """
    return in_parts(lambda part: _pixelate(part, severity), images)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def jpeg_compression(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Stored as JPEG of quality 25 … 7 and read again, to Pillow's bits on any device. Pixels off the 8-bit grid are rounded to it first."""
    return _jpeg_compression(images, severity)


@corruption(
    severity="quality",
    family="digital",
    source="Wallace 1992, The JPEG Still Picture Compression Standard (ITU-T T.81)",
    url="https://www.w3.org/Graphics/JPEG/itu-t81.pdf",
    licence="Pillow and libjpeg-turbo: permissive",
    rules="4:2:0 subsampling, Pillow's tables. The released files of ImageNet-C were stored at quality 85.",
    citation="""@article{wallace1992jpeg,
  title={The {JPEG} Still Picture Compression Standard},
  author={Wallace, Gregory K.},
  journal={IEEE Transactions on Consumer Electronics},
  volume={38},
  number={1},
  year={1992}
}""",
)
def jpeg(images: Tensor, draws: Draws, *, quality: Annotated[int, Ge(1), Le(95)] = 85) -> Tensor:
    """Stored as JPEG of a quality and read again, to Pillow's bits on any device. Pixels off the 8-bit grid are rounded to it first."""
    return _stored(images, quality)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def saturate(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Other saturation: colours fade towards grey (severities 1 and 2), or become as strong as they can. One of the four extra corruptions."""
    return in_parts(lambda part: _saturate(part, severity), images)


def _contrast(images: Tensor, severity: Severity) -> Tensor:
    """The mean is summed in whole numbers: no order of summation shows, and a flat picture stays as it is.

    The released generator's mean carries rounding, by which a flat picture may come out a level darker.
    """
    total = levels(images).mul_(_FINE).round_().long().sum(dim=(2, 3), keepdim=True)
    mean = total.double() / (_FINE * 255.0 * images[0:1, 0].numel())
    return truncated((fractions(images) - mean).mul_(_KEPT[severity - 1]).add_(mean).mul_(255.0))


def _elastic_transform(images: Tensor, across: Tensor, down: Tensor, *, severity: Severity) -> Tensor:
    """across, down: (N, H, W) uniform in [0, 1)."""
    height, width = images.shape[-2:]
    push = height * _PUSH
    fields = torch.stack((down, across), dim=1).double().mul_(2 * push).add_(-push)
    smooth = filters.gaussian(fields, (height * _SMOOTH, width * _SMOOTH), 3.0, "reflect")
    moves = smooth.mul_(_STRETCH[severity - 1]).float().double()
    rows = torch.arange(height, device=images.device)[:, None] + moves[:, 0]
    columns = torch.arange(width, device=images.device) + moves[:, 1]
    found = sampled(fractions(images).float(), rows, columns)
    return truncated(found.float().mul_(255.0))


def _pixelate(images: Tensor, severity: Severity) -> Tensor:
    share = _SHRUNK[severity - 1]
    if not compiled.serve(images):
        return pixels(np.stack([_coarse(Image.fromarray(picture), share) for picture in to_uint8(images)]), images.device)
    along, across = (shrinking(side, share) for side in images.shape[-2:])
    out = torch.empty(images.shape)
    compiled.loops(_LOOPS).coarse(compiled.planes(images), across, along, compiled.planes(out))
    return out


def _coarse(picture: Image.Image, share: float) -> NDArray[np.uint8]:
    small = picture.resize((max(1, int(picture.width * share)), max(1, int(picture.height * share))), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.NEAREST))


def _jpeg_compression(images: Tensor, severity: Severity) -> Tensor:
    return _stored(images, _QUALITY[severity - 1])


def _stored(images: Tensor, quality: int) -> Tensor:
    """By loops or on a CUDA device where that gives Pillow's bits, else by Pillow, which on a CPU is sooner than torch."""
    if images.shape[-1] > codec.NARROW and compiled.serve(images):
        out = torch.empty(images.shape)
        compiled.loops(_CODEC_LOOPS).reopened(
            compiled.array(images, *images.shape), codec.quantisers(quality), compiled.array(out, *images.shape)
        )
        return out
    if images.shape[-1] > codec.NARROW and images.device.type == "cuda":
        return in_parts(lambda part: codec.reopened(part, quality), images)
    reopened = [_reopened(picture, quality) for picture in to_uint8(images)]
    return pixels(np.stack(reopened), images.device) if reopened else images.clone()


def _reopened(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _saturate(images: Tensor, severity: Severity) -> Tensor:
    factor, addend = _SATURATION[severity - 1]
    hue, saturation, value = colour.to_hsv(fractions(images))
    return truncated(colour.to_rgb(hue, saturation.mul_(factor).add_(addend).clamp_(0.0, 1.0), value).mul_(255.0))
