"""Ablations of an image, and how many of them one square patch can touch.

An ablation shows a band of pixels (`columns`, `rows`) or a square block of them (`blocks`) and hides the rest; bands and blocks wrap
around the edges of the image. A certificate by ablations counts the model's votes on all of them (Levine and Feizi 2020; Salman et al.
2022). A patch changes only the votes of ablations that show some of it, so the number that it can touch, anywhere in the image, bounds
what it can change. The patch itself does not wrap.
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
    """The visible pixels of n ablations, those where both masks are true. rows: (n, H) bool; columns: (n, W) bool."""

    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Ablations:
    """All ablations of one kind of images of `size` (height, width), numbered from the upper left; for `both` the columns come first.

    width: of a band, or the side of a block, in pixels. stride: pixels from one to the next; the last gap is shorter where stride does
    not divide the side. Raises BadParameter for a width larger than the image, or a stride that leaves one ablation.
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
                f"{self.kind}: width is {self.width} and stride {self.stride}; on images of {height}x{width} pixels width is 1 to {least} "
                f"and stride 1 to {least - 1}."
            )

    @classmethod
    def of_scenario(cls, scenario: Spec, size: tuple[int, int]) -> Ablations | None:
        """The ablations of a bound certificate; None for other scenarios."""
        if scenario.kind != "certificate" or scenario.name not in get_args(Kind):
            return None
        return cls(scenario.name, int(scenario.get("width")), int(scenario.get("stride")), size)  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        """The number of ablations."""
        down, across = (len(starts) for starts in self._starts)
        return {"columns": across, "rows": down, "both": across + down, "blocks": down * across}[self.kind]

    def window(self, which: Sequence[int] | np.ndarray) -> Window:
        """The visible pixels of the ablations with these numbers."""
        index = np.asarray(which, dtype=np.int64)
        down, across = self._starts
        if self.kind == "blocks":
            return Window(self._visible(down[index // len(across)], 0), self._visible(across[index % len(across)], 1))
        of_columns = index < len(across) if self.kind == "both" else np.full(len(index), self.kind == "columns")
        of_rows = index[~of_columns] - len(across) * (self.kind == "both")
        rows, columns = (np.ones((len(index), side), dtype=bool) for side in self.size)
        rows[~of_columns] = self._visible(down[of_rows], 0)
        columns[of_columns] = self._visible(across[index[of_columns]], 1)
        return Window(rows, columns)

    def touched(self, patch: int) -> int:
        """The most ablations that a square patch of side `patch` can touch, over all its places in the image: exact, for any stride."""
        down, across = (_most_touched(side, self.width, self.stride)[patch - 1] for side in self.size)
        return int({"columns": across, "rows": down, "both": across + down, "blocks": across * down}[self.kind])

    def touched_by_formula(self, patch: int) -> int:
        """The published number, ⌈(patch + width − 1) / stride⌉, squared for blocks and doubled for both.

        Too small for some strides that do not divide the side.
        """
        touched = -(-(patch + self.width - 1) // self.stride)
        return {"columns": touched, "rows": touched, "both": 2 * touched, "blocks": touched * touched}[self.kind]

    def largest_patch_by_place(self, votes: np.ndarray, classes: int) -> int:
        """The side of the largest square patch that cannot change the majority vote, wherever it is and whatever its pixels; 0 for none.

        votes: (count,) the class that each ablation votes for, in their order; classes: how many there are. Counted place by place: at
        each, the patch takes the first class's votes among the ablations that it touches and gives all of these to one rival. Exact
        against patches that could do that, and never less than what `touched` proves, which assumes its maximum everywhere. Strict: a tie
        is not certified.
        """
        total = np.bincount(votes, minlength=classes)
        first = int(total.argmax())
        gained = 1 + (votes == first).astype(np.int64)  # on the first class, by a rival that gets the vote of an ablation
        any_rival = _PatchSums(self, gained)
        patch = min(self.size)
        for rival in (one for one in np.argsort(-total, kind="stable") if one != first):
            lead = int(total[first] - total[rival])
            if lead > any_rival.largest_sum(patch):  # rivals with fewer votes cannot win either
                break
            patch = _PatchSums(self, gained - (votes == rival)).largest_below(lead, patch)
        return patch

    def order(self) -> np.ndarray:
        """The numbers of all ablations in bit-reversed order, so that any first few are spread over the image."""
        bits = max(1, (self.count - 1).bit_length())
        numbers = np.arange(1 << bits)
        reverse = functools.reduce(
            lambda total, bit: total | ((numbers >> bit & 1) << (bits - 1 - bit)), range(bits), np.zeros_like(numbers)
        )
        return reverse[reverse < self.count]

    @property
    def _starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The first pixel of each band, down and across."""
        return np.arange(0, self.size[0], self.stride), np.arange(0, self.size[1], self.stride)

    def _visible(self, starts: np.ndarray, axis: int) -> np.ndarray:
        """(n, side) bool: the pixels of bands that begin at `starts`."""
        side = self.size[axis]
        return np.asarray((np.arange(side) - starts[:, None]) % side < self.width)


@functools.cache
def _most_touched(side: int, width: int, stride: int) -> np.ndarray:
    """(side,): the most bands along an axis that a patch of 1 … side pixels can touch.

    A band that begins at s touches the patch [a, a + m) where it shows one of its pixels: where s lies in [a − width + 1, a + m − 1],
    wrapping around.
    """
    begins = np.zeros(side, dtype=np.int64)
    begins[::stride] = 1
    before = np.concatenate([[0], np.cumsum(np.tile(begins, 3))])
    most = np.empty(side, dtype=np.int64)
    for patch in range(1, side + 1):
        places = np.arange(side - patch + 1) + side
        reach = min(patch + width - 1, side)
        most[patch - 1] = (before[places - width + 1 + reach] - before[places - width + 1]).max()
    return most


class _PatchSums:
    """Sums numbers over the ablations that a patch touches, and finds the largest sum over its places. numbers: (count,), none negative."""

    def __init__(self, ablations: Ablations, numbers: np.ndarray) -> None:
        self.ablations = ablations
        self.tables = [(self._table(values, axes), axes) for values, axes in self._parts(numbers)]

    def largest_sum(self, patch: int) -> int:
        """The largest sum for a patch of side `patch`; it grows with the side."""
        return sum(self._largest(table, axes, patch) for table, axes in self.tables)

    def largest_below(self, limit: int, patch: int) -> int:
        """The largest side, up to `patch`, whose largest sum is below the limit; 0 where none is."""
        low, high = 0, patch
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.largest_sum(middle) < limit else (low, middle - 1)
        return low

    def _parts(self, numbers: np.ndarray) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """The numbers by place, (down, across), with the axes along which their ablations lie."""
        kind, (down, across) = self.ablations.kind, (len(starts) for starts in self.ablations._starts)
        if kind == "blocks":
            return [(numbers.reshape(down, across), (0, 1))]
        bands = {"columns": across, "rows": 0, "both": across}[kind]
        of_columns, of_rows = (numbers[None, :bands], (1,)), (numbers[bands:, None], (0,))
        return [part for part in (of_columns, of_rows) if part[0].size]

    def _table(self, values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Cumulative sums over ablations that begin above and left of each pixel, with the image repeated once along each axis."""
        placed = np.zeros([side if axis in axes else 1 for axis, side in enumerate(self.ablations.size)], dtype=np.int64)
        placed[:: self.ablations.stride, :: self.ablations.stride] = values
        for axis in axes:
            sums = np.concatenate([placed, placed], axis).cumsum(axis)
            placed = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        return placed

    def _largest(self, table: np.ndarray, axes: tuple[int, ...], patch: int) -> int:
        """The largest sum over places a: bands that touch [a, a + patch) begin in [a − width + 1, a + patch − 1], wrapping around."""
        for axis in axes:
            side = self.ablations.size[axis]
            reach = min(patch + self.ablations.width - 1, side)
            stop = np.arange(side - patch + 1) + patch + side
            table = table.take(stop, axis) - table.take(stop - reach, axis)
        return int(table.max())
