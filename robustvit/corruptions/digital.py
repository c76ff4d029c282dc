"""Digital: contrast, pixelation, JPEG compression and saturation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image
from torch import Tensor

from robustvit.corruptions.imagenet_c_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.corruptions.kernels import codec, colour
from robustvit.corruptions.kernels.eight_bit import fractions, in_chunks, in_planes, levels, truncated
from robustvit.corruptions.kernels.pillow_resize import box_tables
from robustvit.primitives import compiled
from robustvit.primitives.batch import Severity
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels
from robustvit.spec.registry import corruption

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_CODEC_LOOPS = "robustvit.corruptions.kernels.codec_loops"
_KEPT = (0.4, 0.3, 0.2, 0.1, 0.05)
_SHRUNK = (0.6, 0.5, 0.4, 0.3, 0.25)
_QUALITY = (25, 18, 15, 10, 7)
_SATURATION = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))  # factor, addend
_FINE = 1 << 24  # fractions of a level in which sums are counted; 2**24 of them for 2**20 pixels stay within int64


@corruption(severity="severity", family="digital", source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES)
def contrast(images: Tensor, draws: Draws, *, severity: Severity) -> Tensor:
    """Reduces contrast: every channel shrinks towards its mean, to 0.4 … 0.05 of its spread."""
    return _contrast(images, severity)


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

    def flattened(planes: Tensor) -> Tensor:
        total = levels(planes).mul_(_FINE).round_().long().sum(dim=(2, 3), keepdim=True)
        mean = total.double() / (_FINE * 255.0 * planes[0].numel())
        return truncated((fractions(planes) - mean).mul_(_KEPT[severity - 1]).add_(mean).mul_(255.0), images.dtype)

    return in_planes(flattened, images)


def _pixelate(images: Tensor, severity: Severity) -> Tensor:
    share = _SHRUNK[severity - 1]
    along, across = (box_tables(side, share) for side in images.shape[-2:])
    if compiled.serve(images):
        return compiled.filled(torch.empty(images.shape), compiled.loops(_LOOPS).pixelate, compiled.planes(images), across, along)
    rows, columns = torch.from_numpy(along.places), torch.from_numpy(across.places)
    out = torch.empty(images.shape)
    for row, image in zip(out, _as_pillow(images), strict=True):
        small = np.array(image.resize((len(across.firsts), len(along.firsts)), Image.Resampling.BOX))
        pixels = of_levels(torch.from_numpy(small)).permute(2, 0, 1)  # while they are few
        torch.index_select(pixels.index_select(2, columns), 1, rows, out=row)
    return out.to(images.device)


def pixelate_by_pillow(image: Image.Image, share: float) -> Image.Image:
    """Shrinks an image to `share` of its sides and enlarges it by repetition."""
    small = image.resize((max(1, int(image.width * share)), max(1, int(image.height * share))), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _jpeg_compression(images: Tensor, severity: Severity) -> Tensor:
    return _jpeg(images, _QUALITY[severity - 1])


def _jpeg(images: Tensor, quality: int) -> Tensor:
    """Uses compiled loops, or torch on a CUDA device, where these give Pillow's bits; else Pillow, which on a CPU is faster than torch."""
    if images.shape[-1] > codec.NARROW and compiled.serve(images):
        given = compiled.array(images, *images.shape), codec.quantization_tables(quality)
        return compiled.filled(torch.empty(images.shape), compiled.loops(_CODEC_LOOPS).jpeg_round_trip, *given, shape=images.shape)
    if images.shape[-1] > codec.NARROW and images.device.type == "cuda":
        return in_chunks(lambda part: codec.jpeg_round_trip(part, quality), images)
    out = torch.empty(images.shape)
    for row, image in zip(out, _as_pillow(images), strict=True):
        for plane, channel in zip(row, jpeg_by_pillow(image, quality).split(), strict=True):  # which is faster than torch
            plane.copy_(of_levels(torch.from_numpy(np.array(channel))))
    return out.to(images.device)


def jpeg_by_pillow(image: Image.Image, quality: int) -> Image.Image:
    """Compresses and decompresses an image."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file, formats=("JPEG",))


def _as_pillow(images: Tensor) -> Iterator[Image.Image]:
    """The images, rounded to 8 bits; put together of planes by Pillow, and converted to bytes by NumPy, which are the fastest."""
    for image in images.detach():
        planes = (plane.mul(255.0).round_().clamp_(0, 255).cpu().numpy().astype(np.uint8) for plane in image)  # each in a core's cache
        yield Image.merge("RGB", [Image.fromarray(plane) for plane in planes])


def _saturate(images: Tensor, severity: Severity) -> Tensor:
    factor, addend = _SATURATION[severity - 1]
    hue, saturation, value = colour.to_hsv(fractions(images))
    return truncated(colour.to_rgb(hue, saturation.mul_(factor).add_(addend).clamp_(0.0, 1.0), value).mul_(255.0), images.dtype)
