"""Square patches of pixels: their possible places, the choice among them, masks, and pasting.

A place is the (row, column) of a patch's upper left pixel. The patches of one image never overlap.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Data
from robustvit.primitives.draws import Draws

CITATION = """@inproceedings{gu2022vision,
  title={Are Vision Transformers Robust to Patch Perturbations?},
  author={Gu, Jindong and Tresp, Volker and Qin, Yao},
  booktitle={European Conference on Computer Vision},
  year={2022}
}"""


@runtime_checkable
class PatchReader(Protocol):
    """The reader of a data set whose images are patches to be put on others.

    pixels: (P, 3, H, W) float32 in [0, 1], each patch in the middle of an image; side: of a patch, in pixels.
    """

    pixels: Tensor
    side: int


def patch_reader(data: Data, who: str) -> PatchReader:
    """The reader of a data set of patches. Raises BadParameter, whose message begins with `who`, for any other data set."""
    read = getattr(data, "read", None)
    if not isinstance(read, PatchReader):
        raise BadParameter(f"{who}: data '{data.name}' holds images, not patches to be put on them; name imagenet-patch.")
    return read


def patch_places(height: int, width: int, size: int, offset: int | None) -> Tensor:
    """Every place of a patch of `size` x `size` pixels in an image, (P, 2) int64, row by row.

    offset: the cells of a grid of `size` pixels, shifted right and down by so many pixels; cells that do not fit completely are left out.
    With a size that is a multiple of a model's tokens, 0 is aligned with the token grid and half a token is farthest from it. None: any
    pixel. Raises BadParameter where no patch fits.
    """
    if offset is not None and not 0 <= offset < size:
        raise BadParameter(f"offset is {offset}; a grid of {size} pixels is shifted by 0 to {size - 1}, or null for any place.")
    first, step = (0, 1) if offset is None else (offset, size)
    rows, columns = (torch.arange(first, side - size + 1, step) if side >= first + size else None for side in (height, width))
    if rows is None or columns is None:
        raise BadParameter(f"no patch of {size}x{size} pixels{_shifted(offset)} fits into images of {height}x{width}; take a smaller size.")
    return torch.cartesian_prod(rows, columns)


def max_patches(height: int, width: int, size: int, offset: int | None) -> int:
    """The number of patches that are guaranteed to fit: all cells of the grid, or, at any pixel, what fits in the worst case.

    In the worst case each patch blocks as many places as it can. Raises BadParameter where not even one fits.
    """
    count = len(patch_places(height, width, size, offset))
    return count if offset is not None else -(-count // (2 * size - 1) ** 2)


def refuse_too_many(count: int, height: int, width: int, size: int, offset: int | None, who: str = "patches") -> None:
    """Raises BadParameter, whose message begins with `who`, for more patches than `max_patches`, or where none fits."""
    try:
        most = max_patches(height, width, size, offset)
    except BadParameter as error:
        raise BadParameter(f"{who}: {error}") from error
    if count > most:
        fit = "drawn at any pixel one after the other, are not guaranteed to" if offset is None else f"on a grid{_shifted(offset)}, do not"
        raise BadParameter(
            f"{who}: {count} patches of {size}x{size} pixels, {fit} fit into images of {height}x{width}; there is room for {most}. "
            "Take fewer patches, or smaller ones."
        )


def random_places(draws: Draws, count: int, height: int, width: int, size: int, offset: int | None) -> Tensor:
    """Random places of `count` patches for each sample of the draws, (N, count, 2), that do not overlap.

    Each is uniform over the places that the ones before leave free. The first places do not depend on `count`. Raises BadParameter where
    there is no room for all.
    """
    refuse_too_many(count, height, width, size, offset)
    free = patch_places(height, width, size, offset).to(draws.device)
    return _highest(draws.words(len(free)), free, count, size, apart=offset is not None)


def best_places(scores: Tensor, count: int, size: int, offset: int | None) -> Tensor:
    """The places of the `count` highest-scoring patches for maps of scores (N, H, W), (N, count, 2).

    First the place with the largest sum of scores, then the largest of those that do not overlap it, and so on. Of equal sums the first is
    taken. Raises BadParameter where there is no room for all.
    """
    height, width = scores.shape[1:]
    refuse_too_many(count, height, width, size, offset)
    free = patch_places(height, width, size, offset).to(scores.device)
    return _highest(window_sums(scores, size)[:, free[:, 0], free[:, 1]], free, count, size, apart=offset is not None)


def window_sums(scores: Tensor, size: int) -> Tensor:
    """The sums of scores (N, H, W) over the window of `size` x `size` pixels at every place, (N, H − size + 1, W − size + 1) float64."""
    total = torch.nn.functional.pad(scores.double(), (1, 0, 1, 0)).cumsum(dim=1).cumsum(dim=2)
    return total[:, size:, size:] - total[:, :-size, size:] - total[:, size:, :-size] + total[:, :-size, :-size]


def patch_mask(at: Tensor, size: int, height: int, width: int) -> Tensor:
    """The pixels that patches at places (N, count, 2) cover, (N, 1, H, W) bool."""
    rows, columns = (window_pixels(at[..., axis], size, side) for axis, side in ((0, height), (1, width)))
    covered = torch.einsum("nkh,nkw->nhw", rows.float(), columns.float()) > 0
    return covered[:, None]


def paste(images: Tensor, patches: Tensor, covered: Tensor) -> Tensor:
    """`patches` where `covered`, and `images`, bit for bit, elsewhere. images, patches: (N, 3, H, W); covered: (N, 1, H, W) bool."""
    return torch.where(covered, patches, images)


def _shifted(offset: int | None) -> str:
    return "" if not offset else f" shifted by {offset}"


def _highest(scores: Tensor, free: Tensor, count: int, size: int, apart: bool) -> Tensor:
    """The `count` places of the highest scores (N, P) that do not overlap. apart: whether no places overlap, so that sorting suffices."""
    if apart:
        return free[scores.argsort(dim=1, descending=True, stable=True)[:, :count]]
    left, found = torch.ones_like(scores, dtype=torch.bool), []
    lowest = scores.amin(dim=1, keepdim=True) - 1
    for _ in range(count):
        at = free[torch.where(left, scores, lowest).argmax(dim=1)]
        found.append(at)
        left &= ((free - at[:, None]).abs() >= size).any(dim=2)
    return torch.stack(found, dim=1) if found else free.new_zeros(len(scores), 0, 2)


def window_pixels(first: Tensor, size: int, side: int) -> Tensor:
    """The pixels of one axis that windows of `size` pixels starting at `first` (…) cover, (…, side) bool."""
    at = torch.arange(side, device=first.device)
    return (at >= first[..., None]) & (at < first[..., None] + size)
