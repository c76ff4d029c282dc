"""The conventions by which papers draw the shifts whose predictions they compare, as ranges of whole pixels."""

from __future__ import annotations

from typing import Literal, NamedTuple

from robustvit.errors import BadParameter

ShiftConvention = Literal["circ15", "circ32", "crop32", "circular"]
"""`circ15` (Ding et al. 2023): 0 to 14 px on a torus. `circ32` (Chaman and Dokmanić 2021): −32 to 31 px on a torus. `crop32` (Zhang 2019):
windows at offsets 0 to 31 in an image 32 px larger. `circular`: all shifts on a torus."""

CROP_MARGIN = 32  # pixels by which the image of crop32 is larger than its windows
_CIRCULAR = {"circ15": (0, 14), "circ32": (-32, 31)}


class ShiftRanges(NamedTuple):
    """The ends, included, of shifts down and to the right. still: the shift of the unshifted image, the same in both directions."""

    down: tuple[int, int]
    right: tuple[int, int]
    still: int

    @property
    def shape(self) -> tuple[int, int]:
        """How many shifts there are in each direction."""
        return self.down[1] - self.down[0] + 1, self.right[1] - self.right[0] + 1


def shift_ranges(convention: ShiftConvention, height: int, width: int) -> ShiftRanges:
    """The shifts of a convention for images of height x width. Raises BadParameter where they are larger than the image."""
    if convention == "circular":
        return ShiftRanges((0, height - 1), (0, width - 1), 0)
    if convention == "crop32":
        return ShiftRanges((0, CROP_MARGIN - 1), (0, CROP_MARGIN - 1), CROP_MARGIN // 2)
    ends = _CIRCULAR[convention]
    farthest = max(abs(end) for end in ends)
    if farthest > min(height, width):
        raise BadParameter(
            f"convention {convention} shifts by up to {farthest} pixels, more than images of {height}x{width} have; take circular, which "
            "takes all shifts of an image."
        )
    return ShiftRanges(ends, ends, 0)
