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
from robustvit.spec.spec import Spec

Kind = Literal["columns", "rows", "both", "blocks"]

CITATION = """@inproceedings{salman2022certified,
  title={Certified Patch Robustness via Smoothed Vision Transformers},
  author={Salman, Hadi and Jain, Saachi and Wong, Eric and Madry, Aleksander},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2022}
}
@inproceedings{levine2020randomized,
  title={(De)Randomized Smoothing for Certifiable Defense against Patch Attacks},
  author={Levine, Alexander and Feizi, Soheil},
  booktitle={Advances in Neural Information Processing Systems},
  year={2020}
}"""


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

    def held(self, votes: np.ndarray, classes: int) -> int:
        """The side of the largest square patch that leaves the first class first, wherever it lies and whatever it makes the touched ablations vote for; 0: none.

        votes: (count,) the class that each ablation votes for, in their order; classes: how many there are. Counted place by place: at each, the patch takes what
        the first class has among the ablations it touches and gives all of them to one rival. Exact against patches that could do that, and never less than
        what `touched` proves, which lets the patch touch its most everywhere. Strict: a tie does not hold.
        """
        total = np.bincount(votes, minlength=classes)
        first = int(total.argmax())
        taken = 1 + (votes == first).astype(np.int64)  # what one ablation's vote is worth to a rival that does not have it
        anyone = _Sums(self, taken)
        held = min(self.size)
        for rival in (one for one in np.argsort(-total, kind="stable") if one != first):
            lead = int(total[first] - total[rival])
            if lead > anyone.most(held):  # and so lead the first class over those with fewer votes
                break
            held = _Sums(self, taken - (votes == rival)).largest_below(lead, held)
        return held

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


class _Sums:
    """The largest sum of numbers (count,), one for each ablation and none negative, over those that a patch touches, over all its places."""

    def __init__(self, ablations: Ablations, numbers: np.ndarray) -> None:
        self.ablations = ablations
        self.tables = [(self._table(values, axes), axes) for values, axes in self._parts(numbers)]

    def most(self, patch: int) -> int:
        """Of a patch of so many pixels; it grows with them."""
        return sum(self._largest(table, axes, patch) for table, axes in self.tables)

    def largest_below(self, limit: int, patch: int) -> int:
        """The largest patch, up to one of `patch` pixels, whose sum is below the limit; 0 where none is."""
        low, high = 0, patch
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.most(middle) < limit else (low, middle - 1)
        return low

    def _parts(self, numbers: np.ndarray) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """The numbers by place, (down, across), and along which axes their ablations follow each other."""
        kind, (down, across) = self.ablations.kind, (len(starts) for starts in self.ablations._starts)
        if kind == "blocks":
            return [(numbers.reshape(down, across), (0, 1))]
        bands = {"columns": across, "rows": 0, "both": across}[kind]
        of_columns, of_rows = (numbers[None, :bands], (1,)), (numbers[bands:, None], (0,))
        return [part for part in (of_columns, of_rows) if part[0].size]

    def _table(self, values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Sums of all that begins above and left of each pixel, of two copies of the picture after each other."""
        placed = np.zeros([side if axis in axes else 1 for axis, side in enumerate(self.ablations.size)], dtype=np.int64)
        placed[:: self.ablations.stride, :: self.ablations.stride] = values
        for axis in axes:
            sums = np.concatenate([placed, placed], axis).cumsum(axis)
            placed = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        return placed

    def _largest(self, table: np.ndarray, axes: tuple[int, ...], patch: int) -> int:
        """Where bands touch the patch that lies at [a, a + patch): they begin in [a − width + 1, a + patch − 1], around the edge."""
        for axis in axes:
            side = self.ablations.size[axis]
            reach = min(patch + self.ablations.width - 1, side)
            stop = np.arange(side - patch + 1) + patch + side
            table = table.take(stop, axis) - table.take(stop - reach, axis)
        return int(table.max())
