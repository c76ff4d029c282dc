"""A drop-in replacement for `imagecorruptions.corrupt` 1.1.2: the same signature, the same random draws, the same bytes.

This is the only place where randomness does not come from Draws but from numpy's global generator, in the order in which the reference
draws. Suites never use it. The computation is that of the registered corruptions, on bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustvit.corruptions import blur, digital, elastic, noise, weather
from robustvit.corruptions.kernels.eight_bit import fractions, in_strips
from robustvit.corruptions.kernels.textures import FILES, frost_texture
from robustvit.errors import MissingExtra, nearest, with_article
from robustvit.primitives.batch import Severity

ImageArray = NDArray[np.uint8]
Step = Callable[[ImageArray, Severity], ImageArray]
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
    checked, level = _checked_image(image), _checked_severity(severity)
    return _step(corruption_name, corruption_number)(checked, level)


def salt_and_pepper(image: ImageArray, severity: int, generator: np.random.Generator) -> ImageArray:
    """`corrupt(image, severity, "impulse_noise")` with a given generator: reproducible, which the reference is not."""
    return _salt_and_pepper(_checked_image(image), _checked_severity(severity), generator)


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
        raise AttributeError(f"image is {with_article(type(image).__name__)}; corrupt takes a numpy.ndarray.")
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


def _step(name: str | None, number: int) -> Step:
    if name is not None:
        if name not in _STEPS:
            raise KeyError(f"corruption_name '{name}' is unknown.{nearest(name, _STEPS)} It takes {', '.join(_STEPS)}.")
        return _STEPS[name]
    if number == -1:
        raise ValueError("corrupt needs a corruption_name, or a corruption_number in [0, 18].")
    if not -len(_STEPS) <= number < len(_STEPS):
        raise IndexError(f"corruption_number is {number}; corrupt takes a whole number in [0, {len(_STEPS) - 1}].")
    return list(_STEPS.values())[number]


def _whole(step: Callable[[Tensor, Severity], Tensor]) -> Step:
    """A step on images (1, 3, H, W) as one on an array (H, W, 3), both uint8."""

    def on_array(image: ImageArray, severity: Severity) -> ImageArray:
        planes = step(torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))[None], severity)[0]
        return np.stack(list(planes.numpy()), axis=2)

    return on_array


def _by_value(step: Callable[[Tensor, Severity], Tensor]) -> Step:
    """A step that draws for each value, in the order of memory, as one on an array: a strip of it at a time."""
    return lambda image, severity: np.asarray(in_strips(lambda part: step(part, severity), torch.from_numpy(image.copy())).numpy())


def _by_pillow(step: Callable[[Image.Image, Severity], Image.Image]) -> Step:
    return lambda image, severity: np.array(step(Image.fromarray(image), severity))


def _normal(*shape: int) -> Tensor:
    """Standard normals of the global generator, float64."""
    return torch.from_numpy(np.random.standard_normal(shape))


def _uniform(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.random_sample((1, *shape)))


def _gaussian_noise(values: Tensor, severity: Severity) -> Tensor:
    return noise._gaussian_noise(values, _normal(*values.shape), severity)


def _shot_noise(values: Tensor, severity: Severity) -> Tensor:
    means = fractions(values).mul_(noise._PHOTONS[severity - 1])
    return noise._shot_noise(torch.from_numpy(np.random.poisson(means.numpy())), severity, values.dtype)


def _impulse_noise(image: ImageArray, severity: Severity) -> ImageArray:
    return _salt_and_pepper(image, severity, np.random.default_rng())


def _salt_and_pepper(image: ImageArray, severity: Severity, generator: np.random.Generator) -> ImageArray:
    hit = torch.from_numpy(generator.random(image.shape))

    def step(values: Tensor, hit: Tensor) -> Tensor:
        return noise._impulse_noise(values, hit, torch.from_numpy(generator.random(len(values))), severity=severity)

    return np.asarray(in_strips(step, torch.from_numpy(image.copy()), hit).numpy())


def _speckle_noise(values: Tensor, severity: Severity) -> Tensor:
    return noise._speckle_noise(values, _normal(*values.shape), severity)


def _glass_blur(images: Tensor, severity: Severity) -> Tensor:
    _, reach, passes = blur._GLASS[severity - 1]
    height, width = (side - 2 * reach for side in images.shape[-2:])
    offsets = np.random.randint(-reach, reach, size=(1, passes, height, width, 2))
    return blur._glass_blur(images, torch.from_numpy(offsets), severity)


def _motion_blur(images: Tensor, severity: Severity) -> Tensor:
    return blur._motion_blur(images, torch.tensor([np.random.uniform(-45, 45)], dtype=torch.float64), severity)


def _snow(images: Tensor, severity: Severity) -> Tensor:
    flakes = _normal(1, *images.shape[-2:])
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
    return weather._spatter(images, _normal(1, *images.shape[-2:]), severity)


def _pixelate(image: Image.Image, severity: Severity) -> Image.Image:
    return digital.pixelate_by_pillow(image, digital._SHRUNK[severity - 1])


def _jpeg_compression(image: Image.Image, severity: Severity) -> Image.Image:
    return digital.jpeg_by_pillow(image, digital._QUALITY[severity - 1])


_STEPS: dict[str, Step] = {
    "gaussian_noise": _by_value(_gaussian_noise),
    "shot_noise": _by_value(_shot_noise),
    "impulse_noise": _impulse_noise,
    "defocus_blur": _whole(blur._defocus_blur),
    "glass_blur": _whole(_glass_blur),
    "motion_blur": _whole(_motion_blur),
    "zoom_blur": _whole(blur._zoom_blur),
    "snow": _whole(_snow),
    "frost": _whole(_frost),
    "fog": _whole(_fog),
    "brightness": _whole(weather._brightness),
    "contrast": _whole(digital._contrast),
    "elastic_transform": _whole(_elastic_transform),
    "pixelate": _by_pillow(_pixelate),
    "jpeg_compression": _by_pillow(_jpeg_compression),
    "speckle_noise": _by_value(_speckle_noise),
    "gaussian_blur": _whole(blur._gaussian_blur),
    "spatter": _whole(_spatter),
    "saturate": _whole(digital._saturate),
}
