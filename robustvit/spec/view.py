"""The preprocessing that brings an image of any size to a model's input size: resize, crop, interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from robustvit.errors import BadParameter, DataUnreadable, nearest
from robustvit.spec.given import check_whole

Crop = Literal["center", "squash", "none"]
CROPS = ("center", "squash", "none")
LARGEST = 89_478_485  # pixels of an image on its way to the model: as many as Pillow considers safe to decode
LONGEST_SIDE = math.isqrt(LARGEST)  # pixels of a side that a user gives
SMALLEST_SHARE = 0.001  # of the resized image that a crop keeps
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


@dataclass(frozen=True, slots=True)
class View:
    """The preprocessing of images before a model, part of every Cell.

    size: (height, width) of the scenario's images, in pixels. resize: short side before the crop, or None not to resize. crop: `center`
    resizes the short side, keeps the proportions and crops the centre; `squash` resizes both sides, whatever their proportions, and crops
    the centre (with resize None: resizes to `size`); `none` takes the image as it is. interpolation: a Pillow filter, antialiased as
    Pillow does it. shown: the (height, width) that images are upsampled to after the scenario, before the model; None keeps their size.
    share: the ratio that `resize` was computed from (size / resize, unrounded), kept to compute it again for another size.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    crop: Crop = "center"
    interpolation: str = "bicubic"
    share: float | None = field(default=None, compare=False, repr=False)
    shown: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.interpolation, str) or self.interpolation not in INTERPOLATIONS:
            hint = nearest(str(self.interpolation), INTERPOLATIONS)
            raise BadParameter(f"interpolation '{self.interpolation}' is unknown.{hint} It takes {', '.join(INTERPOLATIONS)}.")
        if self.crop not in CROPS:
            raise BadParameter(f"crop is '{self.crop}'.{nearest(str(self.crop), CROPS)} It takes {', '.join(CROPS)}.")
        if not isinstance(self.size, tuple) or len(self.size) != 2:
            raise BadParameter(f"a view's size is (height, width); got {self.size!r}.")
        for name, side in zip(("height", "width"), self.size, strict=True):
            check_whole(side, f"a view's {name}", 1, LARGEST)
        if math.prod(self.size) > LARGEST:
            raise BadParameter(f"a view of {self.size[0]}x{self.size[1]} pixels is larger than {LARGEST:,}.")
        if self.resize is not None:
            check_whole(self.resize, "a view's resize", 1, LONGEST_SIDE)

    @classmethod
    def of_timm(cls, config: dict[str, Any]) -> View:
        """The evaluation view of a timm data configuration (`input_size`, `crop_pct`, `crop_mode`, `interpolation`).

        Raises BadParameter for what no classifier of timm uses: a padded border, an oblong centre crop.
        """
        _, height, width = config["input_size"]
        mode: Crop = config.get("crop_mode") or "center"
        if mode not in ("center", "squash") or (mode == "center" and height != width):
            raise BadParameter(
                f"a view of {height}x{width} pixels with crop mode '{mode}' is not supported; it takes center (square) or squash."
            )
        resize = math.floor(min(height, width) / config["crop_pct"])
        return cls((height, width), resize, mode, config["interpolation"], config["crop_pct"])

    @property
    def crop_pct(self) -> float | None:
        """The share of the resized short side that the crop keeps."""
        return self.share if self.share is not None or self.resize is None else min(self.size) / self.resize

    def with_overrides(
        self, img_size: int | None = None, crop_pct: float | None = None, interpolation: str | None = None, crop: Crop | None = None
    ) -> View:
        """This view with a user's settings; `crop_pct` in (0, 1]. It stays the same when only the size changes; `squash` crops nothing."""
        if crop not in (None, *CROPS):
            raise BadParameter(f"crop is '{crop}'.{nearest(str(crop), CROPS)} It takes {', '.join(CROPS)}.")
        if crop == "squash" and crop_pct is None:
            return replace(self.with_overrides(img_size, None, interpolation), resize=None, crop=crop, share=None)
        if crop_pct is not None and (not isinstance(crop_pct, int | float) or not SMALLEST_SHARE <= crop_pct <= 1):
            raise BadParameter(f"--crop-pct is {crop_pct!r}; it takes a share from {SMALLEST_SHARE} to 1.")
        if img_size is not None:
            check_whole(img_size, "--img-size", 1, LONGEST_SIDE)
        size = self.size if img_size is None else (img_size, img_size)
        share = crop_pct if crop_pct is not None else self.share
        resize = self.resize
        if share is not None and (img_size is not None or crop_pct is not None):
            resize = math.floor(min(size) / share)
        elif resize is not None:
            resize = resize * min(size) // min(self.size)
        return replace(
            self,
            size=size,
            resize=resize,
            crop=crop or self.crop,
            interpolation=self.interpolation if interpolation is None else interpolation,
            share=share,
        )

    def for_precropped(self, pixels: int) -> View:
        """This view for images that are squares of `pixels` already: unchanged where the model takes that size, otherwise resized."""
        return replace(self, resize=None, crop="center" if self.size == (pixels, pixels) else "squash", share=None)

    def with_scenario_size(self, pixels: int) -> View:
        """This view with scenarios acting at `pixels` px and their images upsampled for the model; that of a smaller model is unchanged."""
        if min(self.size) <= pixels:
            return self
        return replace(self.with_overrides(img_size=pixels), shown=self.size)

    def apply(self, image: Any, name: str = "an image") -> Any:
        """The preprocessed Pillow image, RGB, of `size` pixels. The arithmetic is that of torchvision's Resize and CenterCrop.

        Raises DataUnreadable, beginning with `name`, before anything is allocated, for an image so long and narrow that it would be resized
        or padded to more than LARGEST pixels; BadParameter where the result has another size.
        """
        self.refuse_long(image.size, name)
        image = image if image.mode == "RGB" else image.convert("RGB")
        height, width = self.size
        resample = INTERPOLATIONS[self.interpolation]
        if self.crop == "squash":
            image = image.resize(self._squashed(), resample)
        elif self.resize is not None:
            image = resize_short(image, self.resize, resample)
        if self.crop != "none":
            image = _center(image, height, width)
        if image.size != (width, height):
            raise BadParameter(f"the view leaves an image of {image.size[1]}x{image.size[0]} pixels; the model takes {height}x{width}.")
        return image

    def refuse_long(self, size: tuple[int, int], name: str) -> None:
        """Raises DataUnreadable where an image of `size`, (width, height), grows to more than LARGEST pixels on its way to the model."""
        resized = size
        if self.crop == "squash":
            resized = self._squashed()
        elif self.resize is not None:
            resized = _resized_short(size, self.resize)
        padded = resized if self.crop == "none" else (max(resized[0], self.size[1]), max(resized[1], self.size[0]))
        between = size if resized == size else (resized[0], size[1])  # Pillow resizes the width first
        width, height = max((between, resized, padded), key=math.prod)
        if width * height > LARGEST and (width, height) != size:
            raise DataUnreadable(
                f"{name}: {size[1]}x{size[0]} pixels are so long and narrow that the view ({self}) makes {height}x{width} of them, "
                f"more than {LARGEST:,}"
            )

    def _squashed(self) -> tuple[int, int]:
        """(width, height) to which `squash` resizes."""
        height, width = self.size
        if self.resize is None:
            return width, height
        return width * self.resize // min(self.size), height * self.resize // min(self.size)

    def as_dict(self) -> dict[str, Any]:
        """The view as plain data."""
        fields = {"size": self.size, "resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}
        return fields if self.shown is None else {**fields, "shown": self.shown}

    def __str__(self) -> str:
        resize = f", resize {self.resize}" if self.resize is not None and self.crop == "center" else ""
        shown = f", shown at {self.shown[0]}x{self.shown[1]}" if self.shown is not None else ""
        return f"{self.size[0]}x{self.size[1]}{resize}, {self.crop}, {self.interpolation}{shown}"


def resize_short(image: Any, short: int, resample: int) -> Any:
    """The Pillow image resized to a short side of `short` px, as torchvision's Resize does it."""
    size = _resized_short(image.size, short)
    return image if size == image.size else image.resize(size, resample)


def _resized_short(size: tuple[int, int], short: int) -> tuple[int, int]:
    """(width, height) resized to a short side of `short` px, as torchvision's Resize rounds it."""
    width, height = size
    if min(width, height) == short:
        return size
    return (short, int(short * height / width)) if width <= height else (int(short * width / height), short)


def _center(image: Any, height: int, width: int) -> Any:
    """The centre crop; a smaller image is padded with black, as torchvision does."""
    w, h = image.size
    if w < width or h < height:
        left, top = max(width - w, 0) // 2, max(height - h, 0) // 2
        image = image.crop((-left, -top, max(w, width) - left, max(h, height) - top))
        w, h = image.size
    left, top = round((w - width) / 2.0), round((h - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class Overrides:
    """The parts of a view that a suite or a user sets; None keeps the model's own.

    crop: `squash` resizes images to the model's size whatever their proportions; `center` and `none` as in View. corrupt_at: the size in
    pixels at which corruptions act for larger models, whose images are then upsampled. whole: a view that replaces the model's own before
    the other parts are set.
    """

    img_size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    corrupt_at: int | None = None
    crop: Crop | None = None
    whole: View | None = None

    def over(self, other: Overrides) -> Overrides:
        """These overrides, and the other's where these are None."""
        return Overrides(
            other.img_size if self.img_size is None else self.img_size,
            other.crop_pct if self.crop_pct is None else self.crop_pct,
            other.interpolation if self.interpolation is None else self.interpolation,
            other.corrupt_at if self.corrupt_at is None else self.corrupt_at,
            other.crop if self.crop is None else self.crop,
            other.whole if self.whole is None else self.whole,
        )

    def apply(self, view: View) -> View:
        """The view with these values set. `corrupt_at` depends on the scenario and is applied by the suite, cell by cell.

        Raises BadParameter for values that no view has.
        """
        if self.corrupt_at is not None:
            check_whole(self.corrupt_at, "corrupt_at", 1, LONGEST_SIDE)
        return (self.whole or view).with_overrides(self.img_size, self.crop_pct, self.interpolation, self.crop)
