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
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, levels, truncated
from robustvit.corruptions.kernels.pillow_resize import box_tables
from robustvit.corruptions.kernels.sampling import sample_bilinear
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
_FINE = 1 << 24  # fractions of a level in which sums are counted; 2**24 of them for 2**20 pixels stay within int64


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def contrast(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Reduces contrast: every channel shrinks towards its mean, to 0.4 … 0.05 of its spread."""
    return in_chunks(lambda part: _contrast(part, severity), images)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def elastic_transform(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Elastic deformation: every pixel is sampled at a smooth random displacement.

    This is the algorithm of imagecorruptions, which has no affine part; that of the released ImageNet-C differs.
    """
    across, down = (draws.at(purpose).uniform(*images.shape[-2:]) for purpose in ("across", "down"))
    return in_chunks(lambda part, *given: _elastic_transform(part, *given, severity=severity), images, across, down)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def pixelate(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Pixelation: averaged down to 0.6 … 0.25 of the sides and enlarged by repetition. Computed as Pillow does, on the CPU.

    Pixels off the 8-bit grid are rounded to it first.
    """
    return in_chunks(lambda part: _pixelate(part, severity), images)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def jpeg_compression(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """JPEG compression of quality 25 … 7, bit for bit Pillow's on any device.

    Pixels off the 8-bit grid are rounded to it first.
    """
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
    """JPEG compression of a given quality, bit for bit Pillow's on any device.

    Pixels off the 8-bit grid are rounded to it first.
    """
    return _jpeg(images, quality)


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def saturate(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Changes saturation: colours fade towards grey (severities 1 and 2) or become as saturated as possible (3 to 5).

    One of the four extra corruptions.
    """
    return in_chunks(lambda part: _saturate(part, severity), images)


def _contrast(images: Tensor, severity: Severity) -> Tensor:
    """The mean is summed in whole numbers, so that the order of summation changes no bit and a flat image is unchanged.

    The released generator's mean has rounding errors, by which a flat image may become a level darker.
    """
    total = levels(images).mul_(_FINE).round_().long().sum(dim=(2, 3), keepdim=True)
    mean = total.double() / (_FINE * 255.0 * images[0:1, 0].numel())
    return truncated((fractions(images) - mean).mul_(_KEPT[severity - 1]).add_(mean).mul_(255.0))


def _elastic_transform(images: Tensor, across: Tensor, down: Tensor, *, severity: Severity) -> Tensor:
    """across, down: (N, H, W) uniform in [0, 1)."""
    height, width = images.shape[-2:]
    push = height * _PUSH
    fields = torch.stack((down, across), dim=1).double().mul_(2 * push).add_(-push)
    smooth = filters.gaussian_blur(fields, (height * _SMOOTH, width * _SMOOTH), 3.0, "reflect")
    moves = smooth.mul_(_STRETCH[severity - 1]).float().double()
    rows = torch.arange(height, device=images.device)[:, None] + moves[:, 0]
    columns = torch.arange(width, device=images.device) + moves[:, 1]
    found = sample_bilinear(fractions(images).float(), rows, columns)
    return truncated(found.float().mul_(255.0))


def _pixelate(images: Tensor, severity: Severity) -> Tensor:
    share = _SHRUNK[severity - 1]
    if not compiled.serve(images):
        return pixels(np.stack([_pixelate_by_pillow(Image.fromarray(image), share) for image in to_uint8(images)]), images.device)
    along, across = (box_tables(side, share) for side in images.shape[-2:])
    return compiled.filled(torch.empty(images.shape), compiled.loops(_LOOPS).pixelate, compiled.planes(images), across, along)


def _pixelate_by_pillow(image: Image.Image, share: float) -> NDArray[np.uint8]:
    small = image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.NEAREST))


def _jpeg_compression(images: Tensor, severity: Severity) -> Tensor:
    return _jpeg(images, _QUALITY[severity - 1])


def _jpeg(images: Tensor, quality: int) -> Tensor:
    """Uses compiled loops, or torch on a CUDA device, where these give Pillow's bits; else Pillow, which on a CPU is faster than torch."""
    if images.shape[-1] > codec.NARROW and compiled.serve(images):
        given = compiled.array(images, *images.shape), codec.quantization_tables(quality)
        return compiled.filled(torch.empty(images.shape), compiled.loops(_CODEC_LOOPS).jpeg_round_trip, *given, shape=images.shape)
    if images.shape[-1] > codec.NARROW and images.device.type == "cuda":
        return in_chunks(lambda part: codec.jpeg_round_trip(part, quality), images)
    reopened = [_jpeg_by_pillow(image, quality) for image in to_uint8(images)]
    return pixels(np.stack(reopened), images.device) if reopened else images.clone()


def _jpeg_by_pillow(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file, formats=("JPEG",)))


def _saturate(images: Tensor, severity: Severity) -> Tensor:
    factor, addend = _SATURATION[severity - 1]
    hue, saturation, value = colour.to_hsv(fractions(images))
    return truncated(colour.to_rgb(hue, saturation.mul_(factor).add_(addend).clamp_(0.0, 1.0), value).mul_(255.0))
