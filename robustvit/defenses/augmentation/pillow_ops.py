"""The operations on 8-bit images that AugMix and PixMix chain, each at a level of severity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, TypeAlias

from annotated_types import Ge, Le
from PIL import Image, ImageEnhance, ImageOps

LOWEST = 0.1  # the least level of an operation
OpSeverity = Annotated[float, Ge(LOWEST), Le(10)]
"""The highest level of an operation: levels are uniform from 0.1 to it."""

Op: TypeAlias = Callable[[Image.Image, float, int], Image.Image]
"""An RGB image, a level from 0.1 to 10, and a sign, 1 or −1, which operations without a direction ignore → an image of the same size."""


def apply_op(image: Image.Image, op: Op, uniform: tuple[float, float], severity: float) -> Image.Image:
    """One operation at a random level and sign. uniform: two numbers in [0, 1)."""
    return op(image, LOWEST + uniform[0] * (severity - LOWEST), 1 if uniform[1] < 0.5 else -1)


def _autocontrast(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def _posterize(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 4 - int(level * 4 / 10))


def _solarize(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(level * 256 / 10))


def _rotate(image: Image.Image, level: float, sign: int) -> Image.Image:
    return image.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR)


def _shear_x(image: Image.Image, level: float, sign: int) -> Image.Image:
    return _affine(image, (1, sign * level * 0.3 / 10, 0, 0, 1, 0))


def _shear_y(image: Image.Image, level: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, sign * level * 0.3 / 10, 1, 0))


def _translate_x(image: Image.Image, level: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, sign * int(level * (image.width / 3) / 10), 0, 1, 0))


def _translate_y(image: Image.Image, level: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, sign * int(level * (image.height / 3) / 10)))


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _color(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Color(image).enhance(_factor(level))


def _contrast(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(_factor(level))


def _brightness(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(_factor(level))


def _sharpness(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(_factor(level))


def _factor(level: float) -> float:
    return level * 1.8 / 10 + 0.1


OPS: Mapping[str, Op] = MappingProxyType(
    {
        "autocontrast": _autocontrast, "equalize": _equalize, "posterize": _posterize, "rotate": _rotate, "solarize": _solarize,
        "shear_x": _shear_x, "shear_y": _shear_y, "translate_x": _translate_x, "translate_y": _translate_y,
    }
)  # fmt: skip
"""The nine operations that are none of the corruptions of ImageNet-C."""
ALL_OPS: Mapping[str, Op] = MappingProxyType(
    {**OPS, "color": _color, "contrast": _contrast, "brightness": _brightness, "sharpness": _sharpness}
)
"""The nine, and four that are corruptions of ImageNet-C or near to one."""
