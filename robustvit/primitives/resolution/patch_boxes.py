"""A plain vision transformer on patches cut anywhere: boxes of any place and size in place of the cells of a grid."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.draws import Draws


class Sampling(NamedTuple):
    """How the patches of an image are drawn, all in multiples of the patch or of their number.

    size: patches have a side uniform in [1, size]. jitter: each is moved by uniform [−jitter, jitter] in both directions. missing: the
    share that is left out. amount: None for one at each cell of the grid, or how many at places that are uniform over the image.
    """

    size: float
    jitter: float
    missing: float
    amount: float | None

    @property
    def is_grid(self) -> bool:
        """Whether the patches are the cells of the grid, every one of them."""
        return self == Sampling(1.0, 0.0, 0.0, None)


def grid_boxes(grid: tuple[int, int], side: tuple[int, int]) -> Tensor:
    """(P, 4) float64: top, left, bottom and right of the cells of a grid in pixels, row by row."""
    rows, columns = (torch.arange(count, dtype=torch.float64) * length for count, length in zip(grid, side, strict=True))
    top, left = (one.flatten() for one in torch.meshgrid(rows, columns, indexing="ij"))
    return torch.stack((top, left, top + side[0], left + side[1]), dim=1)


def drawn_boxes(draws: Draws, grid: tuple[int, int], side: tuple[int, int], sampling: Sampling) -> Tensor:
    """(N, B, 4) float64 boxes of each sample, in pixels, all inside the image: those that would lie outside are moved inside."""
    cells = grid_boxes(grid, side).to(draws.device)
    image, patch = cells[-1, 2:], torch.tensor(side, dtype=torch.float64, device=draws.device)
    if sampling.amount is None:
        middles = ((cells[:, :2] + cells[:, 2:]) / 2).expand(len(draws), -1, -1)
    else:
        amount = max(1, round(sampling.amount * len(cells)))
        middles = draws.at("place").uniform(amount, 2).double() * (image - patch) + patch / 2
    count = middles.shape[1]
    sides = patch * (1 + (sampling.size - 1) * draws.at("size").uniform(count, 1).double())
    sides = torch.minimum(sides, image)
    moved = middles + sampling.jitter * patch * (2 * draws.at("jitter").uniform(count, 2).double() - 1)
    middles = torch.maximum(torch.minimum(moved, image - sides / 2), sides / 2)
    boxes = torch.cat((middles - sides / 2, middles + sides / 2), dim=2)
    kept = max(1, round((1 - sampling.missing) * count))
    if kept == count:
        return boxes
    chosen = draws.at("missing").permutation(count)[:, :kept].sort(dim=1).values
    return boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4))


def forward_boxes(vit: Any, images: Tensor, boxes: Tensor, samples: int = 1) -> Tensor:
    """The logits (N, K) of timm's plain vision transformer on patches of any place and size.

    images: (N, C, H, W), normalised. boxes: (N, B, 4), top, left, bottom and right in pixels. Each box is resampled to a patch (bilinear,
    the mean of samples x samples points for each of its pixels), embedded as the model embeds patches, and given the position embedding at
    its middle, interpolated bilinearly between those of the grid. With the grid's own boxes and one sample these are the model's logits.
    """
    embed = vit.patch_embed
    high, wide = embed.proj.kernel_size
    patches = _cut(images, boxes, (high, wide), samples)
    values = functional.linear(patches.flatten(2), embed.proj.weight.flatten(1), embed.proj.bias)
    values = embed.norm(values)
    rows, columns = embed.grid_size
    blank = values.new_zeros(1, *((rows, columns) if vit.dynamic_img_size else (rows * columns,)), values.shape[2])
    embedded = vit._pos_embed(blank)
    prefix = vit.num_prefix_tokens
    positions = embedded[0, prefix:].T.reshape(1, -1, rows, columns)
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes.new_tensor(images.shape[2:])
    at = (2 * middles / size - 1).flip(-1).to(positions.dtype)
    placed = functional.grid_sample(
        positions.expand(len(images), -1, -1, -1), at[:, :, None], mode="bilinear", padding_mode="border", align_corners=False
    )[..., 0].mT
    tokens = torch.cat((embedded[:, :prefix].expand(len(images), -1, -1), values + placed), dim=1)
    tokens = vit.norm(vit.blocks(vit.norm_pre(tokens)))
    logits: Tensor = vit.forward_head(tokens)
    return logits


def oversampling(size: float) -> int:
    """How many points along each axis stand for a pixel of patches up to so many times as large."""
    return math.ceil(size)


def _cut(images: Tensor, boxes: Tensor, patch: tuple[int, int], samples: int) -> Tensor:
    """(N, B, C, h, w): the boxes resampled to patches."""
    count, (high, wide) = boxes.shape[1], patch
    steps = [(torch.arange(length * samples, device=boxes.device, dtype=boxes.dtype) + 0.5) / (length * samples) for length in patch]
    extent = boxes[..., 2:] - boxes[..., :2]
    rows, columns = (boxes[..., axis, None] + extent[..., axis, None] * steps[axis] for axis in (0, 1))  # (N, B, points), in pixels
    size = images.shape[2:]
    down, right = (2 * one / length - 1 for one, length in zip((rows, columns), size, strict=True))
    shape = (*down.shape, right.shape[2])
    at = torch.stack((right[:, :, None, :].expand(shape), down[:, :, :, None].expand(shape)), dim=-1).to(images.dtype)
    found = functional.grid_sample(images, at.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False)
    found = found.view(len(images), images.shape[1], count, high, samples, wide, samples).mean(dim=(4, 6))
    return found.transpose(1, 2)
