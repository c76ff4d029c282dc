"""Randomness keyed by (seed, stream, sample id): the same numbers in any batch, order, shard, process and on any device.

Words come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a counter-based generator in pure
integer arithmetic. Its key is a hash of the seed, the stream's name and the sample's id; its counter is the position, so a prefix
does not depend on the length requested. Words are equal everywhere; normals agree to rounding of log and cos.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from robustvit.primitives import compiled

_MASK = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_LOOPS = "robustvit.primitives.philox"
_BLOCK = 1 << 14  # counters processed at once on a CPU: the ten rounds then stay in cache


class Draws:
    """Random numbers for N samples. Every method is a pure function: calling it twice returns the same numbers.

    Use `at(purpose)` for numbers that must be independent of others drawn for the same samples.
    """

    def __init__(self, seed: int, stream: str, ids: Sequence[str], device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.stream = stream
        self.ids = tuple(ids)
        self.device = torch.device(device)

    @classmethod
    def for_step(cls, seed: int, step: int, ids: Sequence[str], device: torch.device | str = "cpu") -> Draws:
        """The draws of the samples of one training step."""
        return cls(seed, f"step {step}", ids, device)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, keep: Tensor) -> Draws:
        """The draws of the samples selected by a boolean mask or an index tensor; their numbers do not change."""
        index = torch.arange(len(self))[keep.cpu()]
        return Draws(self.seed, self.stream, [self.ids[i] for i in index.tolist()], self.device)

    def at(self, purpose: str | int) -> Draws:
        """An independent stream for the same samples."""
        return Draws(self.seed, f"{self.stream}/{purpose}", self.ids, self.device)

    def words(self, count: int) -> Tensor:
        """Random words, (N, count) int64, uniform in [0, 2**32)."""
        return self.integers(count, low=0, high=1 << 32)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(N, *shape) float32, uniform in [low, high); multiples of 2**-24 of the span."""
        unit = self._units(math.prod(shape))
        found = unit if (low, high) == (0.0, 1.0) else unit.mul_(high - low).add_(low)
        return found.reshape(len(self.ids), *shape)

    def uniform_where(self, chosen: Tensor) -> Tensor:
        """`uniform` shaped like `chosen` (N, …) bool, where that is true; other values may be 0. A CPU makes no words for these alone."""
        if self.device.type != "cpu" or self._compiled():
            return self.uniform(*chosen.shape[1:])
        count = math.prod(chosen.shape[1:])
        out = torch.zeros(len(self.ids), -(-count // 4), 4)
        for key, row, wanted in zip(self._keys().numpy(), out, chosen.flatten(1), strict=True):
            blocks = functional.pad(wanted, (0, -count % 4)).view(torch.int32).nonzero()[:, 0]  # four flags, of a byte each, at once
            for part in torch.split(blocks, _BLOCK):
                row[part] = _as_units(torch.from_numpy(_philox_by_numpy(key[None], part.numpy())[0].view(np.int32)))
        return out.flatten(1)[:, :count].reshape(chosen.shape)

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) float32, standard normal, by Box and Muller from pairs of words; |z| < 5.8."""
        count = math.prod(shape)
        half = -(-count // 2)
        pairs = self._units(2 * half).reshape(len(self.ids), half, 2)
        for part in torch.split(pairs, self._rows(count)):
            part.copy_(_normals(part))
        return pairs.flatten(1)[:, :count].reshape(len(self.ids), *shape)

    def integers(self, *shape: int, low: int, high: int) -> Tensor:
        """(N, *shape) int64, uniform in low … high − 1 (bias below (high − low) / 2**32). high − low: at most 2**32."""
        count, span = math.prod(shape), high - low
        if self._compiled():
            found = self._blocks(count, torch.int64)
            compiled.loops(_LOOPS).integers(self._keys().numpy(), span, low, found.numpy())
            return found.flatten(1)[:, :count].reshape(len(self.ids), *shape)
        found = self._made(count, torch.int64, lambda words: _scaled(words.long() & _MASK, span).add_(low))
        return found.reshape(len(self.ids), *shape)

    def permutation(self, n: int) -> Tensor:
        """(N, n) int64: a uniform permutation of 0 … n − 1 for each sample."""
        words = self.words(2 * n).view(len(self.ids), n, 2)
        return ((words[..., 0] << 31) | (words[..., 1] >> 1)).argsort(dim=1, stable=True)

    def _units(self, count: int) -> Tensor:
        """(N, count) float32 in [0, 1), a new tensor: the leading 24 bits of each word."""
        if self._compiled():
            found = self._blocks(count, torch.float32)
            compiled.loops(_LOOPS).units(self._keys().numpy(), found.numpy())
            return found.flatten(1)[:, :count]
        return self._made(count, torch.float32, _as_units)

    def _made(self, count: int, dtype: torch.dtype, of: Callable[[Tensor], Tensor]) -> Tensor:
        """`of` applied to words, 32 bits in int64 or, on a CPU and one part at a time, in int32; (N, count)."""
        keys, out = self._keys(), self._blocks(count, dtype)
        if self.device.type != "cpu":
            words = torch.empty_like(out, dtype=torch.int64)
            _philox(keys, torch.arange(out.shape[1], device=self.device), words)
            return of(words).flatten(1)[:, :count]
        step = max(1, _BLOCK // max(1, len(self.ids)))
        for start in range(0, out.shape[1], step):
            made = _philox_by_numpy(keys.numpy(), np.arange(start, min(start + step, out.shape[1])))
            out[:, start : start + step] = of(torch.from_numpy(made.view(np.int32)))
        return out.flatten(1)[:, :count]

    def _blocks(self, count: int, dtype: torch.dtype) -> Tensor:
        """An empty tensor for `count` numbers of each sample, four to a counter."""
        return torch.empty(len(self.ids), -(-count // 4), 4, dtype=dtype, device=self.device)

    def _rows(self, count: int) -> int:
        """How many samples of `count` numbers to process at once, so that they stay in a CPU's cache."""
        return max(1, len(self.ids) if self.device.type != "cpu" else 4 * _BLOCK // max(1, count))

    def _compiled(self) -> bool:
        return self.device.type == "cpu" and compiled.serve()

    def _keys(self) -> Tensor:
        raw = [hashlib.blake2b(f"{self.seed}\0{self.stream}\0{name}".encode(), digest_size=8).digest() for name in self.ids]
        pairs = [(int.from_bytes(key[:4], "little"), int.from_bytes(key[4:], "little")) for key in raw]
        return torch.tensor(pairs, dtype=torch.int64, device=self.device).view(-1, 2)


def _scaled(words: Tensor, span: int) -> Tensor:
    """Words, int64, as whole numbers below `span`; the product of the largest span would not fit."""
    return words if span == 1 << 32 else words.mul_(span) >> 32


def _as_units(words: Tensor) -> Tensor:
    """The leading 24 bits of words, which are overwritten, as a fraction in [0, 1)."""
    return words.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)


def _normals(pairs: Tensor) -> Tensor:
    """Standard normals (N, half, 2), by Box and Muller, of pairs of units (N, half, 2)."""
    radius = (pairs[..., 0] + 2.0**-24).log_().mul_(-2.0).sqrt_()
    angle = pairs[..., 1] * (2.0 * math.pi)
    return torch.view_as_real(torch.complex(radius * angle.cos(), radius * angle.sin()))


def _philox(keys: Tensor, counters: Tensor, out: Tensor) -> None:
    """Fills out (N, C, 4) with the ten-round Philox of counters (C,) under keys (N, 2), all int64 holding 32-bit words.

    The 64-bit products wrap, but their low and high halves are right: two's complement keeps the bits.
    """
    c0 = counters.expand(len(keys), -1) & _MASK
    c1 = (counters >> 32).expand(len(keys), -1)
    c2 = c3 = torch.zeros_like(c0)
    k0, k1 = keys[:, 0:1], keys[:, 1:2]
    for turn in range(_ROUNDS):
        p0, p1 = c0 * _M0, c2 * _M1
        c0 = ((p1 >> 32) & _MASK).bitwise_xor_(c1).bitwise_xor_((k0 + turn * _W0) & _MASK)
        c2 = ((p0 >> 32) & _MASK).bitwise_xor_(c3).bitwise_xor_((k1 + turn * _W1) & _MASK)
        c1, c3 = p1.bitwise_and_(_MASK), p0.bitwise_and_(_MASK)
    torch.stack((c0, c1, c2, c3), dim=2, out=out)


def _philox_by_numpy(keys: NDArray[np.int64], counters: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The same words on a CPU, (N, C, 4), where numpy's unsigned numbers and reused memory take less than half the time.

    The two words that are multiplied, and the two others, are processed together; while the other words of the counters are zero, so is
    half of the products, and the first of them are equal under all keys.
    """
    low, half = np.uint64(_MASK), np.uint64(32)
    factors, steps = np.array([[[_M0]], [[_M1]]], np.uint64), np.array([[[_W0]], [[_W1]]], np.uint64)
    subkeys = [(keys.T[:, :, None].astype(np.uint64) + np.uint64(turn) * steps) & low for turn in range(_ROUNDS)]
    out = np.empty((len(keys), len(counters), 4), np.uint32)
    word, other, product = np.empty((3, 2, len(keys), len(counters)), np.uint64)
    first = (counters.astype(np.uint64) & low) * factors[0, 0, 0]
    np.bitwise_xor(first >> half, subkeys[0][1], out=word[1])
    np.bitwise_xor((counters >> 32).astype(np.uint64), subkeys[0][0], out=word[0])
    other[0], other[1] = 0, first & low
    for turn in range(1, _ROUNDS):
        np.multiply(word, factors, out=product)
        np.right_shift(product[::-1], half, out=word)
        np.bitwise_xor(word, other, out=word)
        np.bitwise_xor(word, subkeys[turn], out=word)
        if turn < _ROUNDS - 1:
            np.bitwise_and(product[::-1], low, out=other)
    for place, words in enumerate((word[0], product[1], word[1], product[0])):
        out[..., place] = words  # their lower halves
    return out
