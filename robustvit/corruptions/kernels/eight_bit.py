"""Conversion between pixels in [0, 1] and levels 0 … 255, and back by truncation to 8 bits, as in the released generators.

Images are float pixels, or uint8 levels: the bytes of the drop-in, which stay bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from robustvit.primitives import compiled
from robustvit.primitives.pixels import of_levels

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_NEAR = 1e-4  # levels; k/255 · 255 is off by up to 3e-5 in float32, so values this close to a whole level are that level
_CPU_VALUES = 3 * 224 * 224  # processed at once: float64 intermediates then stay in a core's cache
_STRIP = 3 << 14
_GPU_VALUES = 1 << 24


def levels(images: Tensor) -> Tensor:
    """Levels in [0, 255], float64: exact whole numbers for bytes and for pixels on the 8-bit grid, 255 times the value for others."""
    if images.dtype == torch.uint8:
        return images.double()
    if compiled.serve(images):
        return _compiled_levels(images, 1.0)
    on_grid = _levels_on_grid(images)
    if on_grid is not None:
        return on_grid.double()
    exact = images.double().mul_(255.0)
    whole = exact.round()
    return torch.where((exact - whole).abs_() < _NEAR, whole, exact)


def fractions(images: Tensor) -> Tensor:
    """The pixels in float64: k/255, rounded once, for bytes and for pixels on the 8-bit grid."""
    return _compiled_levels(images, 255.0) if compiled.serve(images) and images.dtype != torch.uint8 else levels(images).div_(255.0)


def truncated(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Clips levels (any float dtype and shape) to [0, 255] and truncates them to whole numbers.

    dtype: that of the images they belong to; returns uint8 levels for uint8, else float32 pixels in [0, 1].
    """
    if dtype == torch.uint8:
        return torch.from_numpy(values.clamp(0.0, 255.0).numpy().astype(np.uint8))  # several times as fast as torch's conversion
    if not compiled.serve(values):
        return of_levels(values.clamp(0.0, 255.0).floor_())
    return compiled.filled(torch.empty(values.shape), compiled.loops(_LOOPS).truncated, compiled.array(values, -1), shape=(-1,))


def truncated_pixels(images: Tensor) -> Tensor:
    """The pixels truncated to 8 bits; the images themselves where all are on the 8-bit grid."""
    return truncated(levels(images)) if compiled.serve(images) or _levels_on_grid(images) is None else images


def in_chunks(step: Callable[..., Tensor], images: Tensor, *others: Tensor, rows: int | None = None) -> Tensor:
    """`step(images, *others)` on `rows` samples at a time, by default as many as keep the memory small. An empty batch stays empty."""
    if not len(images):
        return images.clone()
    budget = _CPU_VALUES if images.device.type == "cpu" else _GPU_VALUES
    rows = rows or max(1, budget // math.prod(images.shape[1:]))
    out = torch.empty(
        images.shape, dtype=_dtype(images), device=images.device
    )  # filled chunk by chunk: all chunks reuse the same small memory
    for start in range(0, len(images), rows):
        out[start : start + rows] = step(*(given[start : start + rows] for given in (images, *others)))
    return out


def in_planes(step: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """`step` on each channel by itself, as images (N, 1, H, W): a CPU's cache holds more of a large image."""
    return in_chunks(step, images.flatten(0, 1)[:, None]).view(images.shape)


def in_strips(step: Callable[..., Tensor], images: Tensor, *others: Tensor) -> Tensor:
    """`step(images, *others)`, all of one shape, where each value depends on those in its place alone; a CPU takes flat parts.

    Parts need not end where an image does, so that large images stay in a core's cache, too.
    """
    if images.device.type != "cpu":
        return in_chunks(step, images, *others)
    flat = [given.reshape(-1) for given in (images, *others)]
    out = torch.empty(images.shape, dtype=_dtype(images))
    for start in range(0, images.numel(), _STRIP):
        out.view(-1)[start : start + _STRIP] = step(*(given[start : start + _STRIP] for given in flat))
    return out


def _dtype(images: Tensor) -> torch.dtype:
    return torch.uint8 if images.dtype == torch.uint8 else torch.float32


def _levels_on_grid(images: Tensor) -> Tensor | None:
    """float32 levels of pixels that are all k/255 in float32: in half the memory of the general case. None for others, and on a GPU,
    where the answer would have to be waited for.
    """
    if images.device.type != "cpu" or images.dtype != torch.float32:
        return None
    given = images.detach()
    whole = (given * 255.0).round_()
    return whole if np.array_equal(of_levels(whole).numpy(), given.numpy()) else None  # torch.equal takes several times as long


def _compiled_levels(images: Tensor, divisor: float) -> Tensor:
    out = torch.empty(images.shape, dtype=torch.float64)
    return compiled.filled(out, compiled.loops(_LOOPS).levels, compiled.array(images, -1), divisor, _NEAR, shape=(-1,))
