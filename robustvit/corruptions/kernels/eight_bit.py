"""The 8-bit grid: pixels as levels 0 … 255, and back by truncation, as the released data were made."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustvit.primitives import compiled
from robustvit.primitives.pixels import of_levels

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_NEAR = 1e-4  # levels; float32 holds k/255 · 255 to 3e-5, so what is this near to a whole level is that level
_CPU_VALUES = 3 * 224 * 224  # worked on at once: float64 intermediates then stay in a core's cache
_GPU_VALUES = 1 << 24


def levels(images: Tensor) -> Tensor:
    """float64 levels in [0, 255]; pixels on the 8-bit grid give whole numbers exactly, others 255 times their value."""
    if compiled.serve(images):
        return _compiled_levels(images, 1.0)
    exact = images.double().mul_(255.0)
    whole = exact.round()
    near = (exact - whole).abs_() < _NEAR
    if near.device.type == "cpu" and bool(near.all()):  # faster, and on a CPU nothing has to be synchronised for it
        return whole
    return torch.where(near, whole, exact)


def fractions(images: Tensor) -> Tensor:
    """The pixels in float64, k/255 rounded once where they are on the 8-bit grid."""
    return _compiled_levels(images, 255.0) if compiled.serve(images) else levels(images).div_(255.0)


def truncated(values: Tensor) -> Tensor:
    """float32 pixels of levels (of any size, any float dtype), clipped to [0, 255] and cut to the 8-bit grid."""
    if not compiled.serve(values):
        return of_levels(values.clamp(0.0, 255.0).floor_())
    out = torch.empty(values.shape)
    compiled.loops(_LOOPS).truncated(compiled.array(values, -1), compiled.array(out, -1))
    return out


def in_parts(step: Callable[..., Tensor], images: Tensor, *others: Tensor, rows: int | None = None) -> Tensor:
    """`step(images, *others)`, all of N rows, some rows at a time: `rows`, or as many as keep its memory small."""
    if not len(images):
        return images.clone()
    budget = _CPU_VALUES if images.device.type == "cpu" else _GPU_VALUES
    rows = rows or max(1, budget // math.prod(images.shape[1:]))
    out = torch.empty(images.shape, device=images.device)  # filled part by part: the same small memory serves all parts
    for start in range(0, len(images), rows):
        out[start : start + rows] = step(*(given[start : start + rows] for given in (images, *others)))
    return out


def _compiled_levels(images: Tensor, divisor: float) -> Tensor:
    out = torch.empty(images.shape, dtype=torch.float64)
    compiled.loops(_LOOPS).levels(compiled.array(images, -1), divisor, _NEAR, compiled.array(out, -1))
    return out
