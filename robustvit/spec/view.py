"""How a picture of any size becomes the square a model looks at: resize, crop, interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from robustvit.errors import BadParameter, nearest

Crop = Literal["center", "squash", "none"]
CROPS = ("center", "squash", "none")
INTERPOLATIONS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


@dataclass(frozen=True, slots=True)
class View:
    """A model's way of looking, part of every Cell.

    size: (height, width) of what the model sees, in pixels. resize: short side before the cut, or None to leave the picture's size alone.
    crop: `center` resizes the short side, keeps the proportions and cuts the middle; `squash` resizes both sides, whatever their
    proportions, and cuts the middle (with resize None: resizes to `size`); `none` takes the picture as it is. interpolation: a Pillow
    filter, antialiased as Pillow does it. shown: the (height, width) that pictures are enlarged to once the scenario is done with them,
    before the model sees them; None leaves their size. share: what `resize` was computed from (size / resize, unrounded); it only serves
    to compute it again for another size.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    crop: Crop = "center"
    interpolation: str = "bicubic"
    share: float | None = field(default=None, compare=False, repr=False)
    shown: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            hint = nearest(self.interpolation, INTERPOLATIONS)
            raise BadParameter(f"interpolation '{self.interpolation}' is unknown.{hint} It takes {', '.join(INTERPOLATIONS)}.")
        if min(self.size) < 1 or (self.resize is not None and self.resize < 1):
            raise BadParameter(f"a view's sizes are positive pixels; got size {self.size}, resize {self.resize}.")

    @classmethod
    def of_timm(cls, config: dict[str, Any]) -> View:
        """The evaluation view of a timm data configuration (`input_size`, `crop_pct`, `crop_mode`, `interpolation`).

        Raises BadParameter for what no classifier of timm asks for: a padded border, an oblong centre crop.
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
        """This view with what a user set by hand; `crop_pct` in (0, 1]. The share kept stays when only the size changes; a crop set to `squash` keeps all."""
        if crop not in (None, *CROPS):
            raise BadParameter(f"crop is '{crop}'.{nearest(str(crop), CROPS)} It takes {', '.join(CROPS)}.")
        if crop == "squash" and crop_pct is None:
            return replace(self.with_overrides(img_size, None, interpolation), resize=None, crop=crop, share=None)
        if crop_pct is not None and not 0 < crop_pct <= 1:
            raise BadParameter(f"--crop-pct is {crop_pct:g}; it takes a share in (0, 1].")
        if img_size is not None and img_size < 1:
            raise BadParameter(f"--img-size is {img_size}; it takes a positive number of pixels.")
        size = self.size if img_size is None else (img_size, img_size)
        share = crop_pct if crop_pct is not None else self.share
        resize = self.resize
        if share is not None and (img_size is not None or crop_pct is not None):
            resize = math.floor(min(size) / share)
        elif resize is not None:
            resize = resize * min(size) // min(self.size)
        return replace(
            self, size=size, resize=resize, crop=crop or self.crop, interpolation=interpolation or self.interpolation, share=share
        )

    def of_cut(self, pixels: int) -> View:
        """This view of pictures that are squares of `pixels` already: as they are where the model takes that size, resized where not."""
        return replace(self, resize=None, crop="center" if self.size == (pixels, pixels) else "squash", share=None)

    def acted_at(self, pixels: int) -> View:
        """This view where scenarios act at `pixels` px and the model is shown the outcome enlarged. A smaller model's view stays."""
        if min(self.size) <= pixels:
            return self
        return replace(self.with_overrides(img_size=pixels), shown=self.size)

    def look(self, image: Any) -> Any:
        """The Pillow image as the model sees it, RGB, `size` pixels. The arithmetic is torchvision's Resize and CenterCrop.

        Raises BadParameter where the view leaves another size than the model's.
        """
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
            raise BadParameter(f"the view leaves a picture of {image.size[1]}x{image.size[0]}; the model takes {height}x{width}.")
        return image

    def _squashed(self) -> tuple[int, int]:
        """(width, height) that both sides are resized to."""
        height, width = self.size
        if self.resize is None:
            return width, height
        return width * self.resize // min(self.size), height * self.resize // min(self.size)

    def as_dict(self) -> dict[str, Any]:
        """The view as plain data."""
        told = {"size": self.size, "resize": self.resize, "crop": self.crop, "interpolation": self.interpolation}
        return told if self.shown is None else {**told, "shown": self.shown}

    def __str__(self) -> str:
        resize = f", resize {self.resize}" if self.resize is not None and self.crop == "center" else ""
        shown = f", shown at {self.shown[0]}x{self.shown[1]}" if self.shown is not None else ""
        return f"{self.size[0]}x{self.size[1]}{resize}, {self.crop}, {self.interpolation}{shown}"


def resize_short(image: Any, short: int, resample: int) -> Any:
    """The Pillow image with its short side `short` px long, as torchvision's Resize makes it."""
    width, height = image.size
    if min(width, height) == short:
        return image
    if width <= height:
        return image.resize((short, int(short * height / width)), resample)
    return image.resize((int(short * width / height), short), resample)


def _center(image: Any, height: int, width: int) -> Any:
    """The middle of the image; where it is smaller than asked, black fills the rest, as torchvision pads."""
    w, h = image.size
    if w < width or h < height:
        left, top = max(width - w, 0) // 2, max(height - h, 0) // 2
        image = image.crop((-left, -top, max(w, width) - left, max(h, height) - top))
        w, h = image.size
    left, top = round((w - width) / 2.0), round((h - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class Overrides:
    """Parts of the view that a suite or a user sets; None leaves the model's own.

    crop: `squash` resizes pictures to the model's size whatever their proportions; `center` and `none` as View has them. corrupt_at: the pixels
    at which corruptions act on behalf of larger models, which are shown the outcome enlarged. whole: a view in the place of any model's own, which
    the others bend.
    """

    img_size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    corrupt_at: int | None = None
    crop: Crop | None = None
    whole: View | None = None

    def over(self, other: Overrides) -> Overrides:
        """These, and the other's where these are silent."""
        return Overrides(
            other.img_size if self.img_size is None else self.img_size,
            other.crop_pct if self.crop_pct is None else self.crop_pct,
            other.interpolation if self.interpolation is None else self.interpolation,
            other.corrupt_at if self.corrupt_at is None else self.corrupt_at,
            other.crop if self.crop is None else self.crop,
            other.whole if self.whole is None else self.whole,
        )

    def apply(self, view: View) -> View:
        """The view with these values set. `corrupt_at` is the scenario's affair, see Cell.view."""
        return (self.whole or view).with_overrides(self.img_size, self.crop_pct, self.interpolation, self.crop)
