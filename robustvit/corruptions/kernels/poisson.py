"""Poisson counts from uniform 32-bit words, by inverting the cumulative distribution function.

The count of a word w is the number of thresholds, P(count ≤ n) in units of 2**-32, that are at most w. On the 8-bit grid there are only
256 rates: a lookup table indexed by the level and the leading bits of the word gives nearly all counts, and a binary search the others.
For rates off the grid the same terms are summed in the same order, which gives the same counts where both methods apply.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from robustvit.primitives import compiled

_LOOPS = "robustvit.corruptions.kernels.pixel_loops"
_CERTAIN = 1 << 32
_BITS = 12  # leading bits of a word that index the lookup table: 2**20 entries of two bytes


def counts(levels: Tensor, words: Tensor, photons: float) -> Tensor:
    """Poisson counts (int64) of mean photons · level / 255. levels: float64 in [0, 255]; words: int64 in [0, 2**32), same shape."""
    found = _table_counts(levels, words, _table(photons, levels.device))
    between = levels != levels.floor()
    if bool(between.any()):
        found[between] = _summed_counts(levels[between] / 255.0 * photons, words[between])
    return found


class _Table(NamedTuple):
    thresholds: Tensor  # sorted, all levels one after another: level · 2**33 + threshold
    width: int  # thresholds of each level
    guide: Tensor  # (256 · 2**_BITS,) int16: the count n, or ~n where the leading bits do not determine it and n is the smallest possible


@functools.lru_cache(maxsize=16)
def _table(photons: float, device: torch.device) -> _Table:
    columns = []
    for threshold in _thresholds(torch.arange(256, dtype=torch.float64) / 255.0 * photons):
        columns.append(threshold)
        if int(threshold.min()) >= _CERTAIN:
            break
    level = torch.arange(256)[:, None]
    flat = (torch.stack(columns, dim=1).clamp_(max=_CERTAIN) + (level << 33)).flatten()
    low = torch.arange(1 << _BITS)[None, :] << (32 - _BITS)
    first = torch.searchsorted(flat, (level << 33) + low, right=True)
    last = torch.searchsorted(flat, (level << 33) + low + ((1 << (32 - _BITS)) - 1), right=True)
    least = first - level * len(columns)
    guide = torch.where(first == last, least, ~least).to(torch.int16)
    return _Table(flat.to(device), len(columns), guide.flatten().to(device))


def _table_counts(levels: Tensor, words: Tensor, table: _Table) -> Tensor:
    """The counts of levels truncated to whole numbers."""
    if compiled.serve(levels, words):
        out = torch.empty(words.shape, dtype=torch.int64)
        given = (compiled.array(part, -1) for part in (levels, words, table.guide))
        return compiled.filled(out, compiled.loops(_LOOPS).counts, *given, _BITS, table.thresholds.numpy(), table.width, shape=(-1,))
    whole = levels.long()
    found = table.guide[((whole << _BITS) | (words >> (32 - _BITS)))].long()
    split = (found < 0).nonzero(as_tuple=True)
    level = whole[split]
    found[split] = torch.searchsorted(table.thresholds, (level << 33) + words[split], right=True) - level * table.width
    return found


def _summed_counts(rates: Tensor, words: Tensor) -> Tensor:
    found = torch.zeros_like(words)
    for threshold in _thresholds(rates):
        beyond = words >= threshold
        if not bool(beyond.any()):
            break
        found += beyond
    return found


def _thresholds(rates: Tensor) -> Iterator[Tensor]:
    """P(count ≤ n) · 2**32, rounded, for n = 0, 1, 2, …; non-decreasing."""
    term = torch.exp(-rates)
    total = term.clone()
    n = 0
    while True:
        yield (total * _CERTAIN).round().long()
        n += 1
        term = term * rates / n
        total = total + term
