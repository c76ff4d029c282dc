"""The phases of images and feature maps at a stride: their norms, which of them is the anchor, and circular rolls by sample.

Phase (a, b) of a map at a stride (h, w) is every h-th row from a, every w-th column from b; its place in a list is a·w + b.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustvit.primitives.structure.canonical_views import view_names

_WHOLE = 1e-3  # of a level: normalising and its inverse round pixels k/255 by a tenth of that at most
_FINE = 2**16  # parts of a level to which other pixels are rounded; float32 has no finer ones in [0.5, 1]
_EXACT_FLOAT32 = 2**24  # whole numbers below it are exact in float32
_LIMB = 24  # bits: sums of so many remain exact
_GOLDEN = 0.6180339887498949
_ALIKE = 1e-6  # relative: norms of features apart by less cannot be told apart in float32


class Anchors(NamedTuple):
    """Of a batch: phases, (N,) int64, the place of the anchor in the list of phases; tied, (N,) bool, whether others have its norm."""

    phases: Tensor
    tied: Tensor


def anchors_of_images(levels: Tensor, stride: tuple[int, int]) -> Anchors:
    """The phase of the largest l2 norm over channels and positions, of images (N, C, H, W) in levels 0 … 255, which `stride` divides.

    Norms are compared exactly. Of an image whose levels are whole to 0.001 the sum of their squares is a whole number; other levels are
    rounded to 2⁻¹⁶, and so is theirs. Where several phases have the largest, the one is taken from which the image comes first in the
    order of `view_names`: where two of them still tie, the image is the same from either, and so is the result but for a roll of whole
    strides. Nothing depends on the index of a phase, nor on other images of the batch.
    """
    nearest = levels.round()
    whole = (levels - nearest).abs_().flatten(1).amax(dim=1) <= _WHOLE
    if bool(whole.all()):
        squares = _phase_sums(_exactly_summed(nearest, stride), stride)
        tied = squares == squares.amax(dim=1, keepdim=True)
    else:
        parts = torch.where(whole.view(-1, 1, 1, 1), nearest.double() * _FINE, (levels.double() * _FINE).round()).long()
        tied = _largest(*_limbs(parts, stride))
    phases = tied.int().argmax(dim=1)
    shared = tied.sum(dim=1) > 1
    for row in shared.nonzero().flatten().tolist():
        exact = torch.where(whole[row], nearest[row].double() * _FINE, (levels[row].double() * _FINE).round()).long()
        phases[row] = _first_view(exact, tied[row], stride)
    return Anchors(phases, shared)


def anchors_of_features(features: Tensor, stride: tuple[int, int]) -> Anchors:
    """The phase of the largest l2 norm over channels and positions of feature maps (N, C, H, W), summed in float64.

    tied: norms within 1e-6 of the largest, which rounding in float32 may reverse, such as those of all tokens behind a layer norm. Of
    these phases the one is taken with the largest sum of (w ∗ v·x)³ over its positions, which depends on all of the map as it looks from
    there: v weighs channels, w the places around by their distance down and across, and both are fixed irregular numbers.
    """
    squares = _phase_sums(features.double().square().sum(dim=1), stride)
    tied = squares >= squares.amax(dim=1, keepdim=True) * (1 - 2 * _ALIKE)
    phases, shared = squares.argmax(dim=1), tied.sum(dim=1) > 1
    if bool(shared.any()):
        moments = _phase_sums(_surroundings(features[shared].double()).pow(3), stride)
        phases[shared] = moments.masked_fill(~tied[shared], -torch.inf).argmax(dim=1)
    return Anchors(phases, shared)


def rolled_to_phase(images: Tensor, phases: Tensor, stride: tuple[int, int]) -> Tensor:
    """(N, C, H, W): each image rolled circularly so that its phase comes first; y[i, j] = x[(i + a) mod H, (j + b) mod W].

    Its gradient is the inverse roll. phases: (N,) int64, places in the list of phases. The very images where none moves.
    """
    if not bool(phases.any()):
        return images
    if images.device.type == "cpu" and not (torch.is_grad_enabled() and images.requires_grad):
        return _copied(images, phases.tolist(), stride)
    count, channels, height, width = images.shape
    down = (torch.arange(height, device=images.device) + (phases // stride[1])[:, None]) % height
    across = (torch.arange(width, device=images.device) + (phases % stride[1])[:, None]) % width
    places = (down[:, :, None] * width + across[:, None, :]).view(count, 1, height * width)
    return images.flatten(2).gather(2, places.expand(-1, channels, -1)).view(images.shape)


def _copied(images: Tensor, phases: list[int], stride: tuple[int, int]) -> Tensor:
    """The same, copied in four parts; a third of the time of indices, without gradients."""
    made = torch.empty_like(images, memory_format=torch.contiguous_format)
    for row, phase in enumerate(phases):
        down, across = divmod(phase, stride[1])
        for to_rows, from_rows in _halves(down, images.shape[2]):
            for to_columns, from_columns in _halves(across, images.shape[3]):
                made[row, :, to_rows, to_columns] = images[row, :, from_rows, from_columns]
    return made


def _halves(shift: int, length: int) -> list[tuple[slice, slice]]:
    """The parts of a rolled axis: where each goes, and from where."""
    parts = [(slice(0, length - shift), slice(shift, length)), (slice(length - shift, length), slice(0, shift))]
    return parts[: 2 if shift else 1]


def phase_maps(features: Tensor, stride: tuple[int, int]) -> Tensor:
    """(N, phases, C, H/h, W/w): the phases of maps (N, C, H, W)."""
    count, channels, height, width = features.shape
    split = features.reshape(count, channels, height // stride[0], stride[0], width // stride[1], stride[1])
    return split.permute(0, 3, 5, 1, 2, 4).reshape(count, -1, channels, height // stride[0], width // stride[1])


def _exactly_summed(levels: Tensor, stride: tuple[int, int]) -> Tensor:
    """(N, H, W): the sums over channels of squares of whole levels, in a type in which sums over a phase's column are exact."""
    total = levels[:, 0].square()
    for channel in range(1, levels.shape[1]):
        total.addcmul_(levels[:, channel], levels[:, channel])
    small = levels.shape[1] * levels.shape[2] // stride[0] * 255**2 < _EXACT_FLOAT32
    return total if small else total.double()


def _phase_sums(values: Tensor, stride: tuple[int, int]) -> Tensor:
    """(N, phases): the sums over positions of maps (N, H, W), over columns in their type, and then in float64, or int64."""
    count, height, width = values.shape
    columns = values.reshape(count, height // stride[0], stride[0] * width).sum(dim=1)
    columns = columns.double() if columns.is_floating_point() else columns
    return columns.view(count, stride[0], width // stride[1], stride[1]).sum(dim=2).flatten(1)


def _limbs(parts: Tensor, stride: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(N, phases) twice: the upper and the lower limb of the sums of squares of whole numbers (N, C, H, W) below 2³¹, exactly."""
    squares = parts.square()
    mask = (1 << _LIMB) - 1
    low = _phase_sums((squares & mask).sum(dim=1), stride)
    high = _phase_sums((squares >> _LIMB).sum(dim=1), stride)
    return high + (low >> _LIMB), low & mask


def _largest(high: Tensor, low: Tensor) -> Tensor:
    """(N, phases) bool: where pairs are the largest of their row in lexicographic order."""
    highest = high == high.amax(dim=1, keepdim=True)
    return highest & (low == low.masked_fill(~highest, -1).amax(dim=1, keepdim=True))


def _first_view(levels: Tensor, tied: Tensor, stride: tuple[int, int]) -> Tensor:
    """The phase, among tied ones (phases,), with the greatest view of an image (C, H, W) int64 from any of its places."""
    if bool((levels == levels[:, :1, :1]).all()):
        return tied.int().argmax()
    greatest = tied
    for names in view_names(levels):
        best = phase_maps(names[None, None], stride)[0].flatten(1).amax(dim=1).masked_fill(~tied, -1)
        greatest = best == best.max()
        if int(greatest.sum()) == 1:
            break
    return greatest.int().argmax()


def _surroundings(features: Tensor) -> Tensor:
    """(N, H, W): a weighted sum of a map (N, C, H, W) as it looks from each place, with weights of 0 to 1; circular shifts commute."""
    _, channels, height, width = features.shape
    weighed = torch.einsum("nchw,c->nhw", features, _irregular(torch.arange(1, channels + 1, device=features.device)))
    down, across = torch.arange(height, device=features.device)[:, None], torch.arange(width, device=features.device)
    places = torch.fft.rfft2(_irregular(1 + down * width + across))
    made: Tensor = torch.fft.irfft2(torch.fft.rfft2(weighed) * places.conj(), s=(height, width))
    return made


def _irregular(numbers: Tensor) -> Tensor:
    """Fractional parts of squares times the golden ratio, float64: no two alike, and in no order."""
    made: Tensor = (numbers.double() * numbers.double() * _GOLDEN).frac()
    return made
