"""Conversions between uint8 images and pixels in [0, 1], and the check of their range."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustvit.errors import BadParameter, PixelRange
from robustvit.spec.view import View


def pixels(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (N, H, W, C) as float32 (N, C, H, W) in [0, 1]. Raises BadParameter for another array."""
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", type(images).__name__)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise BadParameter(f"pixels takes images as an array (N, H, W, C) of uint8; these are {shape} {dtype}.")
    tensor = torch.from_numpy(np.array(images, order="C")).to(device)
    return of_levels(tensor.permute(0, 3, 1, 2).contiguous())


def through_view(view: View, image: np.ndarray, name: str) -> np.ndarray:
    """An image (H, W, C) uint8 after a view, (*view.size, C) uint8; other channels than RGB one by one, as Pillow resizes grey images.

    Raises what `View.apply` does, naming the image.
    """
    if image.shape[2] == 3:
        return np.asarray(view.apply(Image.fromarray(image), name))
    grey = [Image.fromarray(np.ascontiguousarray(image[:, :, channel])) for channel in range(image.shape[2])]
    return np.stack([np.asarray(view.apply(one, name))[:, :, 0] for one in grey], axis=2)


def of_levels(levels: Tensor) -> Tensor:
    """Integer levels 0 … 255, of any dtype, as float32 pixels k/255, with the same bits on every device.

    The divisor is a tensor because a CUDA device multiplies by the reciprocal of a plain number, which is not always k/255.
    """
    return levels.to(torch.float32, copy=True).div_(torch.full((), 255.0, device=levels.device))


def to_uint8(images: Tensor) -> np.ndarray:
    """float (N, 3, H, W) in [0, 1] as uint8 (N, H, W, 3), rounded to the nearest level."""
    scaled = (images.detach() * 255.0).round_().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def check_pixels(images: Tensor, what: str) -> None:
    """Raises PixelRange unless every value is finite and in [0, 1]; `what` begins the message."""
    if images.numel() == 0:
        return
    low, high = torch.aminmax(images.detach())
    if not bool(torch.isfinite(low)) or not bool(torch.isfinite(high)):
        raise PixelRange(f"{what} must be pixels in [0, 1]; some of these are not finite numbers.")
    if not (float(low) >= 0.0 and float(high) <= 1.0):
        levels = low >= 0 and high <= 255
        hint = "They look like levels 0 … 255: divide them by 255." if levels else "Do not normalise them: the Classifier does that itself."
        raise PixelRange(f"{what} must be pixels in [0, 1]; these span [{float(low):.4g}, {float(high):.4g}]. {hint}")
