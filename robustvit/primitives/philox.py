"""Philox words as compiled loops, for `draws` (which explains them); imported only where numba is installed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustvit.primitives.compiled import loop

Integers = NDArray[np.int64]
Tile = NDArray[np.uint32]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_HALF = np.uint64(32)
_WIDTH = 128  # counters processed at once: the ten rounds stay in registers and the nearest cache
_PART = np.float32(2.0**-24)


@loop
def integers(keys: Integers, span: int, low: int, out: Integers) -> None:
    """Fills out (N, blocks, 4) with low + (word · span) // 2**32, the words of counters 0, 1, … under keys (N, 2); span ≤ 2**32."""
    tile, wide = np.empty((4, _WIDTH), np.uint32), np.uint64(span)
    for row in range(len(keys)):
        for start in range(0, out.shape[1], _WIDTH):
            _rounds(keys[row], start, tile)
            for at in range(min(_WIDTH, out.shape[1] - start)):
                for word in range(4):
                    out[row, start + at, word] = np.int64((np.uint64(tile[word, at]) * wide) >> _HALF) + low


@loop
def units(keys: Integers, out: NDArray[np.float32]) -> None:
    """Fills out (N, blocks, 4) with the leading 24 bits of each word, as a fraction in [0, 1)."""
    tile = np.empty((4, _WIDTH), np.uint32)
    for row in range(len(keys)):
        for start in range(0, out.shape[1], _WIDTH):
            _rounds(keys[row], start, tile)
            for at in range(min(_WIDTH, out.shape[1] - start)):
                for word in range(4):
                    out[row, start + at, word] = np.float32(tile[word, at] >> 8) * _PART


@loop
def _rounds(key: Integers, start: int, tile: Tile) -> None:
    """Fills tile (4, width) with the words of the counters from `start`."""
    k0, k1 = np.uint32(key[0]), np.uint32(key[1])
    for at in range(_WIDTH):
        counter = np.uint64(start + at)
        tile[0, at], tile[1, at], tile[2, at], tile[3, at] = np.uint32(counter), np.uint32(counter >> _HALF), 0, 0
    for _ in range(10):
        for at in range(_WIDTH):
            p0, p1 = np.uint64(tile[0, at]) * _M0, np.uint64(tile[2, at]) * _M1
            tile[0, at] = np.uint32(p1 >> _HALF) ^ tile[1, at] ^ k0
            tile[2, at] = np.uint32(p0 >> _HALF) ^ tile[3, at] ^ k1
            tile[1, at], tile[3, at] = np.uint32(p1), np.uint32(p0)
        k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
