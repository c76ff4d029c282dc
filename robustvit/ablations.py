"""Ablations of a picture, and how many of them one square patch can touch.

An ablation shows a band of pixels (`columns`, `rows`) or a square of them (`blocks`) and hides the rest; what leaves the picture on one side comes in on
the other. A certificate by ablations lets the model vote on every one of them (Levine and Feizi 2020; Salman et al. 2022). A patch changes only votes
of ablations that show some of it, so the number that it can touch, wherever it lies, decides what it can change. The patch itself does not wrap.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from robustvit.errors import BadParameter
from robustvit.spec import Spec

Kind = Literal["columns", "rows", "both", "blocks"]


class Window(NamedTuple):
    """The pixels that some ablations show: those where both hold. rows: (n, H) bool; columns: (n, W) bool."""

    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Ablations:
    """All ablations of one kind of pictures of `size` (height, width), numbered from the upper left; of `both` the columns come first.

    width: pixels that a band, or a side of a block, shows. stride: pixels from one to the next; the last gap is shorter where stride does not divide the
    side. Raises BadParameter for a width that the picture does not have, or a stride that leaves one ablation.
    """

    kind: Kind
    width: int
    stride: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        least = min(self.size)
        if not 1 <= self.width <= least or not 1 <= self.stride <= least - 1:
            height, width = self.size
            raise BadParameter(
                f"{self.kind}: width is {self.width} and stride {self.stride}; on pictures of {height}x{width} pixels width is 1 to {least} and stride 1 to {least - 1}."
            )

    @classmethod
    def asked(cls, scenario: Spec, size: tuple[int, int]) -> Ablations | None:
        """Those that a bound certificate asks about, None where it is none of these."""
        if scenario.kind != "certificate" or scenario.name not in get_args(Kind):
            return None
        return cls(scenario.name, int(scenario.get("width")), int(scenario.get("stride")), size)  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        """How many there are."""
        down, across = (len(starts) for starts in self._starts)
        return {"columns": across, "rows": down, "both": across + down, "blocks": down * across}[self.kind]

    def window(self, which: Sequence[int] | np.ndarray) -> Window:
        """What the ablations of these numbers show."""
        index = np.asarray(which, dtype=np.int64)
        down, across = self._starts
        if self.kind == "blocks":
            return Window(self._shown(down[index // len(across)], 0), self._shown(across[index % len(across)], 1))
        of_columns = index < len(across) if self.kind == "both" else np.full(len(index), self.kind == "columns")
        turned = index - len(across) * (self.kind == "both")
        rows, columns = (np.ones((len(index), side), dtype=bool) for side in self.size)
        rows[~of_columns] = self._shown(down[turned[~of_columns]], 0)
        columns[of_columns] = self._shown(across[index[of_columns]], 1)
        return Window(rows, columns)

    def touched(self, patch: int) -> int:
        """How many of them a square patch of `patch` pixels can touch at most, over all its places in the picture: exact, for any stride."""
        down, across = (_most(side, self.width, self.stride)[patch - 1] for side in self.size)
        return int({"columns": across, "rows": down, "both": across + down, "blocks": across * down}[self.kind])

    def touched_by_formula(self, patch: int) -> int:
        """The published number, ⌈(patch + width − 1) / stride⌉, squared for blocks and doubled for both. Too small for some strides that do not divide the side."""
        near = -(-(patch + self.width - 1) // self.stride)
        return {"columns": near, "rows": near, "both": 2 * near, "blocks": near * near}[self.kind]

    def order(self) -> np.ndarray:
        """Their numbers in bit-reversed order, so that any first few are spread over the picture."""
        bits = max(1, (self.count - 1).bit_length())
        numbers = np.arange(1 << bits)
        turned = functools.reduce(
            lambda total, bit: total | ((numbers >> bit & 1) << (bits - 1 - bit)), range(bits), np.zeros_like(numbers)
        )
        return turned[turned < self.count]

    @property
    def _starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Where bands begin, down and across."""
        return np.arange(0, self.size[0], self.stride), np.arange(0, self.size[1], self.stride)

    def _shown(self, starts: np.ndarray, axis: int) -> np.ndarray:
        """(n, side) bool: the pixels of bands that begin at these."""
        side = self.size[axis]
        shown: np.ndarray = (np.arange(side) - starts[:, None]) % side < self.width
        return shown


@functools.cache
def _most(side: int, width: int, stride: int) -> np.ndarray:
    """(side,) for patches of 1 … side pixels, how many bands along an axis one can touch.

    A band that begins at s touches the patch [a, a + m) where it shows one of its pixels: where s lies in [a − width + 1, a + m − 1], around the edge.
    """
    begins = np.zeros(side, dtype=np.int64)
    begins[::stride] = 1
    before = np.concatenate([[0], np.cumsum(np.tile(begins, 3))])
    found = np.empty(side, dtype=np.int64)
    for patch in range(1, side + 1):
        places = np.arange(side - patch + 1) + side
        reach = min(patch + width - 1, side)
        found[patch - 1] = (before[places - width + 1 + reach] - before[places - width + 1]).max()
    return found
