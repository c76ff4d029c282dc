"""The file formats that corrupted images are written in."""

from __future__ import annotations

import io
from typing import Any, Literal, cast

from PIL import Image
from torch import Tensor

from robustvit.errors import BadParameter, nearest
from robustvit.primitives.pixels import to_uint8

Format = Literal["png", "jpeg", "jpeg85"]
ENDINGS = {"png": ".png", "jpeg": ".JPEG", "jpeg85": ".JPEG"}
_SAVED: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"}, "jpeg": {"format": "JPEG", "quality": 95},
    "jpeg85": {"format": "JPEG", "quality": 85, "optimize": True},
}  # fmt: skip


def file_format(form: str) -> Format:
    """The format of that name. Raises BadParameter."""
    if form not in ENDINGS:
        raise BadParameter(f"the format '{form}' is unknown.{nearest(form, ENDINGS)} It takes {', '.join(ENDINGS)}.")
    return cast(Format, form)


def encoded_image(images: Tensor, form: Format) -> bytes:
    """The file of the first of some images, (N, 3, H, W) in [0, 1]."""
    content = io.BytesIO()
    Image.fromarray(to_uint8(images)[0]).save(content, **_SAVED[form])
    return content.getvalue()
