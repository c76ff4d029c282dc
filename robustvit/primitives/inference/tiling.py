"""How many rows a model must see at once so that a row's answer does not depend on its companions.

A matrix product sums in an order that its shape decides, and the number of rows is part of the shape: a row's logits may differ in their last bits
between one tile size and another. They do not depend on the values of the others. So one look with random pixels tells, for a model on this
machine, whether a smaller tile computes every row, and its input gradient, to the same bits as the whole one does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_SIZES = 16  # that are tried: sixteenths of a tile
_STEP = 4  # rows; sizes that are no multiple of it were seen to disagree with larger ones
_KNOWN: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], dict[int, _Size]]] = weakref.WeakKeyDictionary()


@dataclass
class _Size:
    """A number of rows, of which it is not known at first whether it changes a bit. spent: rows of padding that it would have saved until now."""

    alike: bool | None = None
    spent: int = 0


def enough(logits: Callable[[Tensor], Tensor], images: Tensor, tile: int, arithmetic: tuple[Any, ...]) -> int:
    """The fewest rows, at least as many as the images, that compute each as a tile does: `tile` where no smaller number is known to.

    logits: the model on a batch of any number of rows. arithmetic: the module, and what else decides how it computes. A size is looked at once the
    padding that it would have saved has cost as much as the look.
    """
    module, *rest = arithmetic
    known = _KNOWN.setdefault(module, {}).setdefault(tuple(rest), {})
    for rows in _sizes(tile):
        if rows < len(images):
            continue
        size = known.setdefault(rows, _Size())
        if size.alike is None:
            size.spent += tile - rows
            size.alike = _alike(logits, images, rows, tile) if size.spent >= 2 * (tile + rows) else None
        if size.alike:
            return rows
        if size.alike is None:
            return tile
    return tile


def _sizes(tile: int) -> list[int]:
    """The numbers of rows that may stand for a tile, ascending."""
    return list(range(step := -(-tile // _SIZES // _STEP) * _STEP, tile, step))


def _alike(logits: Callable[[Tensor], Tensor], images: Tensor, rows: int, tile: int) -> bool:
    """Whether `rows` rows of random pixels get the same bits alone as in a whole tile, with gradients and without."""
    pixels = torch.rand(tile, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    with torch.no_grad():
        if not torch.equal(logits(pixels[:rows]), logits(pixels)[:rows]):
            return False
    few, whole = _slope(logits, pixels[:rows]), _slope(logits, pixels)
    return all(torch.equal(one, other[:rows]) for one, other in zip(few, whole, strict=True))


def _slope(logits: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[Tensor, ...]:
    """The logits of some pixels, and the gradient of their log-sum-exp where there is one."""
    leaf = pixels.clone().requires_grad_(True)
    with torch.enable_grad():
        answers = logits(leaf)
        gradient = torch.autograd.grad(answers.logsumexp(dim=1).sum(), leaf, allow_unused=True)[0] if answers.requires_grad else None
    return (answers.detach(),) if gradient is None else (answers.detach(), gradient)
