"""Finds how few rows a model may process at once so that every row's bits stay those of a whole tile.

A matrix product sums in an order that depends on its shape, and the number of rows is part of the shape: a row's logits may differ in
their last bits between one tile size and another. They do not depend on the values of the other rows. So one probe with random pixels
shows, for a model on this machine, whether a smaller tile computes every row, and its input gradient, to the same bits as the whole one
does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.primitives.inference.input_gradients import raw_gradient

_SIZES = 16  # that are tried: sixteenths of a tile
_STEP = 4  # rows; sizes that are no multiple of it were seen to disagree with larger ones
_PROBED: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], dict[int, _Size]]] = weakref.WeakKeyDictionary()


@dataclass
class _Size:
    """A number of rows. exact: whether it gives the bits of a whole tile, None until probed. padding: rows it would have saved."""

    exact: bool | None = None
    padding: int = 0


def smallest_exact_size(logits: Callable[[Tensor], Tensor], images: Tensor, tile: int, arithmetic: tuple[Any, ...]) -> int:
    """The fewest rows, at least as many as the images, that give each the bits of a whole tile; `tile` where no smaller number is known to.

    logits: the model on a batch of any number of rows. arithmetic: the module, and all else that decides how it computes. A size is
    probed once the padding that it would have saved has cost as much as the probe.
    """
    module, *rest = arithmetic
    sizes = _PROBED.setdefault(module, {}).setdefault(tuple(rest), {})
    for rows in _candidates(tile):
        if rows < len(images):
            continue
        size = sizes.setdefault(rows, _Size())
        if size.exact is None:
            size.padding += tile - rows
            size.exact = _is_exact(logits, images, rows, tile) if size.padding >= 2 * (tile + rows) else None
        if size.exact:
            return rows
        if size.exact is None:
            return tile
    return tile


def _candidates(tile: int) -> list[int]:
    """The numbers of rows that may replace a tile, ascending."""
    return list(range(step := -(-tile // _SIZES // _STEP) * _STEP, tile, step))


def _is_exact(logits: Callable[[Tensor], Tensor], images: Tensor, rows: int, tile: int) -> bool:
    """Whether `rows` rows of random pixels get the same bits alone as in a whole tile, with gradients and without."""
    pixels = torch.rand(tile, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    with torch.no_grad():
        if not torch.equal(logits(pixels[:rows]), logits(pixels)[:rows]):
            return False
    few, whole = _logits_and_gradient(logits, pixels[:rows]), _logits_and_gradient(logits, pixels)
    return all(torch.equal(one, other[:rows]) for one, other in zip(few, whole, strict=True))


def _logits_and_gradient(logits: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[Tensor, ...]:
    """The logits of some pixels, and the input gradient of their log-sum-exp where there is one."""
    leaf = pixels.clone().requires_grad_(True)
    with torch.enable_grad():
        outputs = logits(leaf)
        gradient = raw_gradient(outputs.logsumexp(dim=1).sum(), leaf)
    return (outputs.detach(),) if gradient is None else (outputs.detach(), gradient)
