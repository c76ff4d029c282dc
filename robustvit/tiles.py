"""How many rows a model must see at once so that a row's answer does not depend on its companions.

A matrix product sums in an order that its shape decides, and the number of rows is part of the shape: a row's logits may differ in their last bits
between one tile size and another. They do not depend on the values of the others. So one look with random pixels tells, for a model on this
machine, whether a smaller tile computes every row, and its input gradient, to the same bits as the whole one does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_STEPS = 16  # sizes that are tried: sixteenths of a tile
_LEAST = 4  # rows; no smaller size was ever seen to agree with a larger one
_KNOWN: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], dict[int, bool]]] = weakref.WeakKeyDictionary()


def enough(logits: Callable[[Tensor], Tensor], images: Tensor, tile: int, arithmetic: tuple[Any, ...]) -> int:
    """The fewest rows, at least as many as the images, that compute each as a tile does: `tile` where no smaller number is known to.

    logits: the model on a batch of any number of rows. arithmetic: the module, and what else decides how it computes.
    """
    step = max(_LEAST, -(-tile // _STEPS))
    module, *rest = arithmetic
    known = _KNOWN.setdefault(module, {}).setdefault(tuple(rest), {})
    for rows in range(-(-len(images) // step) * step, tile, step):
        if rows not in known:
            known[rows] = _alike(logits, images, rows, tile)
        if known[rows]:
            return rows
    return tile


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
