"""Square patches of pixels: where they may lie, which of these places to take, and what is shown there.

A place is the (row, column) of a patch's upper left pixel. Patches of one picture never overlap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws

CITATION = """@inproceedings{gu2022vision,
  title={Are Vision Transformers Robust to Patch Perturbations?},
  author={Gu, Jindong and Tresp, Volker and Qin, Yao},
  booktitle={European Conference on Computer Vision},
  year={2022}
}"""


def places(height: int, width: int, size: int, offset: int | None) -> Tensor:
    """Every place of a patch of `size` pixels in a picture, (P, 2) int64, row by row.

    offset: the cells of a grid of `size` pixels, moved so many pixels right and down; those that do not fit wholly are left out. With a size that is a
    multiple of a model's tokens 0 is aligned with them, and half a token is as far from that as can be. None: at any pixel. Raises BadParameter where
    no patch fits.
    """
    if offset is not None and not 0 <= offset < size:
        raise BadParameter(f"offset is {offset}; a grid of {size} pixels is moved by 0 to {size - 1}, or by null, which is any place.")
    first, step = (0, 1) if offset is None else (offset, size)
    rows, columns = (torch.arange(first, side - size + 1, step) if side >= first + size else None for side in (height, width))
    if rows is None or columns is None:
        raise BadParameter(f"no patch of {size}x{size} pixels{_moved(offset)} fits into pictures of {height}x{width}; take a smaller size.")
    return torch.cartesian_prod(rows, columns)


def room(height: int, width: int, size: int, offset: int | None) -> int:
    """How many patches always find a place: the cells of the grid, or, at any pixel, where each takes away the most that it can, as many as still fit.

    Raises BadParameter where not even one fits.
    """
    found = len(places(height, width, size, offset))
    return found if offset is not None else -(-found // (2 * size - 1) ** 2)


def refuse_too_many(count: int, height: int, width: int, size: int, offset: int | None, who: str = "patches") -> None:
    """Raises BadParameter, whose message begins with `who`, where more patches are wanted than `room` has, or none fits."""
    try:
        most = room(height, width, size, offset)
    except BadParameter as error:
        raise BadParameter(f"{who}: {error}") from error
    if count > most:
        fit = "drawn at any pixel one after the other, do not surely" if offset is None else f"on a grid{_moved(offset)}, do not"
        raise BadParameter(
            f"{who}: {count} patches of {size}x{size} pixels, {fit} fit into pictures of {height}x{width}; there is room for {most}. "
            "Take fewer, or smaller ones."
        )


def draw(draws: Draws, count: int, height: int, width: int, size: int, offset: int | None) -> Tensor:
    """Places of `count` patches for each sample of the draws, (N, count, 2): every one alike likely, then every one of those that are left.

    The first places do not depend on how many are drawn. Raises BadParameter where there is no room for all.
    """
    refuse_too_many(count, height, width, size, offset)
    free = places(height, width, size, offset).to(draws.device)
    return _taken(draws.words(len(free)), free, count, size, apart=offset is not None)


def best(scores: Tensor, count: int, size: int, offset: int | None) -> Tensor:
    """Places of `count` patches for each map of pixels (N, H, W), (N, count, 2): the one with the largest sum, then of those left, the first of equals.

    Raises BadParameter where there is no room for all.
    """
    height, width = scores.shape[1:]
    refuse_too_many(count, height, width, size, offset)
    free = places(height, width, size, offset).to(scores.device)
    return _taken(sums(scores, size)[:, free[:, 0], free[:, 1]], free, count, size, apart=offset is not None)


def sums(scores: Tensor, size: int) -> Tensor:
    """The sum of a map of pixels (N, H, W) inside the window at every place, (N, H − size + 1, W − size + 1) float64."""
    total = torch.nn.functional.pad(scores.double(), (1, 0, 1, 0)).cumsum(dim=1).cumsum(dim=2)
    return total[:, size:, size:] - total[:, :-size, size:] - total[:, size:, :-size] + total[:, :-size, :-size]


def mask(at: Tensor, size: int, height: int, width: int) -> Tensor:
    """(N, 1, H, W) bool: what patches at places (N, count, 2) cover."""
    rows, columns = (_covered(at[..., axis], size, side) for axis, side in ((0, height), (1, width)))
    covered = torch.einsum("nkh,nkw->nhw", rows.float(), columns.float()) > 0
    return covered[:, None]


def paste(images: Tensor, shown: Tensor, covered: Tensor) -> Tensor:
    """The images with other pixels where they are covered, and their own, to the bit, elsewhere. images, shown: (N, 3, H, W); covered: (N, 1, H, W) bool."""
    return torch.where(covered, shown, images)


def _moved(offset: int | None) -> str:
    return "" if not offset else f" moved by {offset}"


def _taken(scores: Tensor, free: Tensor, count: int, size: int, apart: bool) -> Tensor:
    """The best places by their scores (N, P). apart: whether all places are free of each other, so that sorting is enough."""
    if apart:
        return free[scores.argsort(dim=1, descending=True, stable=True)[:, :count]]
    left, found = torch.ones_like(scores, dtype=torch.bool), []
    lowest = scores.amin(dim=1, keepdim=True) - 1
    for _ in range(count):
        at = free[torch.where(left, scores, lowest).argmax(dim=1)]
        found.append(at)
        left &= ((free - at[:, None]).abs() >= size).any(dim=2)
    return torch.stack(found, dim=1) if found else free.new_zeros(len(scores), 0, 2)


def _covered(first: Tensor, size: int, side: int) -> Tensor:
    """(N, count, side) bool: what windows from `first` (N, count) on cover of one axis."""
    at = torch.arange(side, device=first.device)
    return (at >= first[..., None]) & (at < first[..., None] + size)
