"""A drop-in replacement for `imagecorruptions.corrupt` 1.1.2: the same signature, the same random draws, the same bytes.

This is the only place where randomness does not come from Draws but from numpy's global generator, in the order in which the reference
draws. Suites never use it. The computation is that of the registered corruptions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustvit.corruptions import blur, digital, elastic, noise, weather
from robustvit.corruptions.kernels.eight_bit import fractions
from robustvit.corruptions.kernels.textures import FILES, frost_texture
from robustvit.errors import MissingExtra, nearest
from robustvit.primitives.batch import Severity
from robustvit.primitives.pixels import pixels, to_uint8

ImageArray = NDArray[np.uint8]
Subset = Literal["common", "validation", "all", "noise", "blur", "weather", "digital"]
_SMALLEST = 32


def corrupt(image: ImageArray, severity: int = 1, corruption_name: str | None = None, corruption_number: int = -1) -> ImageArray:
    """Applies one of the nineteen corruptions of ImageNet-C, given by name or number; the name takes precedence.

    image: uint8, (H, W), (H, W, 1) or (H, W, 3), of at least 32 pixels a side; returns (H, W, 3). severity: 1 … 5. corruption_number: index
    in `get_corruption_names("all")`. Draws come from numpy's global generator: with the same `np.random.seed` the bytes are those of
    imagecorruptions. Only `impulse_noise` draws from a fresh `np.random.default_rng()`, as scikit-image does; `salt_and_pepper` takes a
    generator.
    Raises the classes that imagecorruptions raises: AttributeError for an invalid image or severity, KeyError and IndexError for an unknown
    corruption, ValueError where neither name nor number is given; also MissingExtra for frost without OpenCV.
    """
    images, level = pixels(_checked_image(image)[None]), _checked_severity(severity)
    return _to_array(_step(corruption_name, corruption_number)(images, level))


def salt_and_pepper(image: ImageArray, severity: int, generator: np.random.Generator) -> ImageArray:
    """`corrupt(image, severity, "impulse_noise")` with a given generator: reproducible, which the reference is not."""
    return _to_array(_salt_and_pepper(pixels(_checked_image(image)[None]), _checked_severity(severity), generator))


def get_corruption_names(subset: Subset = "common") -> list[str]:
    """Names of a subset of the corruptions, in the order of `corruption_number`: common (15), validation (4), all, or one family."""
    names = list(_STEPS)
    places = {
        "common": (0, 15), "validation": (15, 19), "all": (0, 19), "noise": (0, 3), "blur": (3, 7), "weather": (7, 11), "digital": (11, 15),
    }  # fmt: skip
    if subset not in places:
        raise ValueError(f"subset '{subset}' is unknown.{nearest(subset, places)} It takes {', '.join(places)}.")
    return names[slice(*places[subset])]


def _checked_image(image: ImageArray) -> ImageArray:
    """The image as (H, W, 3); raises AttributeError for what imagecorruptions does not take."""
    if not isinstance(image, np.ndarray):
        raise AttributeError(f"image is a {type(image).__name__}; corrupt takes a numpy.ndarray.")
    if image.dtype.type is not np.uint8:
        raise AttributeError(f"image has dtype {image.dtype}; corrupt takes numpy.uint8, in [0, 255].")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise AttributeError(f"image has shape {image.shape}; corrupt takes (H, W), (H, W, 1) or (H, W, 3).")
    if min(image.shape[:2]) < _SMALLEST:
        raise AttributeError(f"image has {image.shape[0]}x{image.shape[1]} pixels; corrupt takes at least {_SMALLEST} on each side.")
    grey = image.ndim == 2 or image.shape[2] == 1
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2) if grey else image


def _checked_severity(severity: int) -> Severity:
    if severity not in (1, 2, 3, 4, 5):
        raise AttributeError(f"severity is {severity!r}; corrupt takes a whole number in [1, 5].")
    return cast(Severity, int(severity))


def _step(name: str | None, number: int) -> Callable[[Tensor, Severity], Tensor]:
    if name is not None:
        if name not in _STEPS:
            raise KeyError(f"corruption_name '{name}' is unknown.{nearest(name, _STEPS)} It takes {', '.join(_STEPS)}.")
        return _STEPS[name]
    if number == -1:
        raise ValueError("corrupt needs a corruption_name, or a corruption_number in [0, 18].")
    if not -len(_STEPS) <= number < len(_STEPS):
        raise IndexError(f"corruption_number is {number}; corrupt takes a whole number in [0, {len(_STEPS) - 1}].")
    return list(_STEPS.values())[number]


def _to_array(images: Tensor) -> ImageArray:
    return np.asarray(to_uint8(images)[0])


def _normal(*shape: int) -> Tensor:
    """Standard normals (1, *shape) of the global generator, float64."""
    return torch.from_numpy(np.random.standard_normal((1, *shape)))


def _uniform(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.random_sample((1, *shape)))


def _normal_by_pixel(images: Tensor) -> Tensor:
    """Standard normals drawn in the order (H, W, 3), that of the reference's images, as (1, 3, H, W)."""
    _, channels, height, width = images.shape
    return _normal(height, width, channels).permute(0, 3, 1, 2)


def _gaussian_noise(images: Tensor, severity: Severity) -> Tensor:
    return noise._gaussian_noise(images, _normal_by_pixel(images), severity)


def _shot_noise(images: Tensor, severity: Severity) -> Tensor:
    means = fractions(images).permute(0, 2, 3, 1).numpy() * noise._PHOTONS[severity - 1]
    return noise._shot_noise(torch.from_numpy(np.random.poisson(means)).permute(0, 3, 1, 2), severity)


def _impulse_noise(images: Tensor, severity: Severity) -> Tensor:
    return _salt_and_pepper(images, severity, np.random.default_rng())


def _salt_and_pepper(images: Tensor, severity: Severity, generator: np.random.Generator) -> Tensor:
    _, channels, height, width = images.shape
    hit, salt = (torch.from_numpy(generator.random((1, height, width, channels))).permute(0, 3, 1, 2) for _ in range(2))
    return noise._impulse_noise(images, hit, salt, severity=severity)


def _speckle_noise(images: Tensor, severity: Severity) -> Tensor:
    return noise._speckle_noise(images, _normal_by_pixel(images), severity)


def _glass_blur(images: Tensor, severity: Severity) -> Tensor:
    _, reach, passes = blur._GLASS[severity - 1]
    height, width = (side - 2 * reach for side in images.shape[-2:])
    offsets = np.random.randint(-reach, reach, size=(1, passes, height, width, 2))
    return blur._glass_blur(images, torch.from_numpy(offsets), severity)


def _motion_blur(images: Tensor, severity: Severity) -> Tensor:
    return blur._motion_blur(images, torch.tensor([np.random.uniform(-45, 45)], dtype=torch.float64), severity)


def _snow(images: Tensor, severity: Severity) -> Tensor:
    flakes = _normal(*images.shape[-2:])
    angle = torch.tensor([np.random.uniform(-135, -45)], dtype=torch.float64)
    return weather._snow(images, flakes, angle, severity=severity)


def _frost(images: Tensor, severity: Severity) -> Tensor:
    texture = frost_texture(np.random.randint(len(FILES)), *images.shape[-2:], resize=_resized_by_opencv)
    top, left = (np.random.randint(0, room) for room in weather._room(texture, images))
    return weather._frost(images, weather._cut(texture, top, left, images)[None], severity)


def _resized_by_opencv(image: ImageArray, rows: int, columns: int) -> ImageArray:
    """The reference's resizing by OpenCV, whose rounding depends on its build; imported late because only this function needs it."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        raise MissingExtra(
            f"corrupt's frost resizes by OpenCV, as imagecorruptions does: pip install opencv-python-headless ({error})."
        ) from error
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_CUBIC))


def _fog(images: Tensor, severity: Severity) -> Tensor:
    size = weather._map_size(images)
    return weather._fog(images, _uniform(size * size - 1), severity)


def _elastic_transform(images: Tensor, severity: Severity) -> Tensor:
    across = _uniform(*images.shape[-2:])
    return elastic._elastic_transform_imagecorruptions(images, across, _uniform(*images.shape[-2:]), severity=severity)


def _spatter(images: Tensor, severity: Severity) -> Tensor:
    return weather._spatter(images, _normal(*images.shape[-2:]), severity)


_STEPS: dict[str, Callable[[Tensor, Severity], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": blur._defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": blur._zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": weather._brightness,
    "contrast": digital._contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": digital._pixelate,
    "jpeg_compression": digital._jpeg_compression,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": blur._gaussian_blur,
    "spatter": _spatter,
    "saturate": digital._saturate,
}
