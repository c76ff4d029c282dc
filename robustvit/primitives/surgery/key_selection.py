"""Which keys each query attends to, where it attends to those of its largest scores alone, true or predicted ones."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.surgery.token_merging import share_of


def selected_keys(query: Tensor, key: Tensor, keep: float, prefix: int, bias: Tensor | None = None) -> Tensor:
    """(N, heads, T, T) bool: for each query the keys of its largest scores, of equal ones the first.

    query, key: (N, heads, T, d). keep: the share of keys, in (0, 1], rounded up. prefix: how many of the first queries take all keys. bias:
    added to scores, or bool, where a key may be taken at all.
    """
    with torch.no_grad():
        scores = query.contiguous() @ key.transpose(-2, -1).contiguous() * query.shape[-1] ** -0.5
        if bias is not None:
            scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
        chosen = largest_of(scores, share_of(key.shape[-2], keep))
        chosen[..., :prefix, :] = True
        return chosen


def largest_of(scores: Tensor, count: int) -> Tensor:
    """(…, K) bool: where the so many largest of the last dimension of scores (…, K) are, of equal ones the first."""
    largest = scores.argsort(dim=-1, descending=True, stable=True)[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, largest, True)


def restricted(bias: Tensor | None, chosen: Tensor) -> Tensor:
    """What scaled_dot_product_attention takes as its mask, so that a query attends to chosen keys alone.

    bias: added to scores, or bool, or None. chosen: (N, heads, T, T) bool.
    """
    if bias is None:
        return chosen
    return bias & chosen if bias.dtype == torch.bool else bias.masked_fill(~chosen, -torch.inf)
