"""Edges of 8-bit pictures and how far away they are, as OpenCV defines both; with its order of rounding.

Pictures are (N, H, W) and hold whole levels 0 … 255.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from robustvit.corruptions.kernels.filters import reflected
from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.edge_loops"
WEAK, STRONG = 50, 150
TANGENT = 13573  # of 22.5°, in parts of 2**15
_STRAIGHT, _DIAGONAL, _KNIGHT = 1.0, 1.4, 2.1969  # the lengths of steps that OpenCV takes
STEPS = (  # that distances take: down, right, length
    (0, 1, _STRAIGHT), (1, 0, _STRAIGHT), (1, 1, _DIAGONAL), (1, -1, _DIAGONAL),
    (1, 2, _KNIGHT), (1, -2, _KNIGHT), (2, 1, _KNIGHT), (2, -1, _KNIGHT),
)  # fmt: skip


def edges(levels: Tensor) -> Tensor:
    """Canny's edges (1986) as bool: Sobel gradients, |x| + |y| above 50, thinned across the edge, joined to some value above 150."""
    if compiled.serve(levels):
        out = torch.zeros(levels.shape, dtype=torch.bool)
        compiled.loops(_LOOPS).edges(compiled.planes(levels.long()), compiled.planes(out))
        return out
    across, down = _gradients(levels.int())
    strength = across.abs() + down.abs()
    thin = (strength > WEAK) & _crests(across, down, strength)
    reached = thin & (strength > STRONG)
    while not torch.equal(reached, thin):
        grown = (max_pool2d(reached.float(), 3, stride=1, padding=1) > 0) & thin
        if torch.equal(grown, reached):
            break
        reached = grown
    return reached


def distances(marks: Tensor, limit: float) -> Tensor:
    """float32: how far the nearest mark is, at most `limit`, in steps to the pixels around (5×5 chamfer; Borgefors 1986).

    First all that steps to the right and down reach, then all that steps to the left and up reach; every sum is rounded to float32.
    """
    if compiled.serve(marks):
        out = torch.empty(marks.shape)
        compiled.loops(_LOOPS).distances(compiled.planes(marks), limit, compiled.planes(out))
        return out
    far = torch.where(marks, 0.0, limit).float()
    for sign in (1, -1):
        before = torch.empty_like(far)
        while not torch.equal(before, far):
            before.copy_(far)
            for down, right, length in STEPS:
                _step(far, sign * down, sign * right, length)
    return far


def equalized(levels: Tensor) -> Tensor:
    """float32 levels whose histogram is as even as a table can make it; the darkest level becomes 0, a flat picture stays."""
    if compiled.serve(levels):
        out = torch.empty(levels.shape)
        compiled.loops(_LOOPS).equalized(compiled.planes(levels.long()), compiled.planes(out))
        return out
    count = levels[0].numel()
    rows = torch.arange(len(levels), device=levels.device)[:, None] * 256
    places = levels.long().flatten(1) + rows
    histogram = torch.bincount(places.flatten(), minlength=256 * len(levels)).view(-1, 256)
    total = histogram.cumsum(1)
    darkest = histogram.gather(1, (histogram > 0).int().argmax(1, keepdim=True))
    rest = (count - darkest).float()
    scale = torch.full_like(rest, 255.0).div_(rest)  # 255.0 / rest would multiply by a rounded reciprocal
    table = ((total - darkest) * scale).round_().clamp_(0.0, 255.0)
    table = torch.where(rest > 0, table, torch.arange(256.0, device=levels.device))
    return table.flatten()[places].view(levels.shape)


def around(values: Tensor, weights: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Each pixel's 3×3 neighbourhood weighed and summed, in the values' dtype; the picture is mirrored at its edge pixels."""
    height, width = values.shape[-2:]
    rows, columns = (reflected(torch.arange(-1, side + 1, device=values.device), side, twice=False) for side in (height, width))
    if compiled.serve(values):
        out, given = torch.empty(values.shape, dtype=values.dtype), torch.tensor(weights, dtype=values.dtype)
        arrays = (compiled.planes(values), given.numpy(), rows.numpy(), columns.numpy(), compiled.planes(out))
        compiled.loops(_LOOPS).around(*arrays)
        return out
    padded = values[:, rows][:, :, columns]
    total = torch.zeros_like(values)
    for row, line in enumerate(weights):
        for column, weight in enumerate(line):
            if weight:
                total.add_(padded[:, row : row + height, column : column + width], alpha=weight)
    return total


def _gradients(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's derivatives to the right and down; edge pixels are repeated."""
    height, width = levels.shape[-2:]
    rows, columns = (torch.arange(-1, side + 1, device=levels.device).clamp(0, side - 1) for side in (height, width))
    padded = levels[:, rows][:, :, columns]
    tall = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    wide = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return tall[:, :, 2:] - tall[:, :, :-2], wide[:, 2:] - wide[:, :-2]


def _crests(across: Tensor, down: Tensor, strength: Tensor) -> Tensor:
    """Where the strength is a maximum along the gradient; of two equal neighbours along an axis the first one is taken."""
    height, width = strength.shape[-2:]
    padded = pad(strength, (1, 1, 1, 1))

    def beside(down: int, right: int) -> Tensor:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = across.abs(), down.abs() << 15
    level = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    upright = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    slanted = torch.where((across ^ down) < 0, rising, falling)
    return torch.where(y < x * TANGENT, level, torch.where(y > x * (TANGENT + (1 << 16)), upright, slanted))


def _step(far: Tensor, down: int, right: int, length: float) -> None:
    """Lets `far` fall, in place, to what one step leaves of it."""
    height, width = far.shape[-2:]
    start = far[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)] + length
    end = far[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    torch.minimum(end, start, out=end)
