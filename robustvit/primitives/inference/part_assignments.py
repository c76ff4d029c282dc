"""The parts that a classifier of parts finds in images, and how alike two assignments of pixels to parts are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.part_maps import part_model
from robustvit.primitives.surgery.patch_features import module_outputs


@torch.no_grad()
def maps_of_parts(model: Classifier, images: Tensor) -> Tensor:
    """(N, K + 1, rows, columns): how far each patch of images (N, 3, H, W) in [0, 1] belongs to each part; the last is the background.

    Raises HostRefused for a model that finds no parts.
    """
    own = part_model(model)
    if own is None:
        raise HostRefused(f"model '{model.card.label}' finds no parts of images; train one with the defense 'parts'.")
    with module_outputs(own.assignment) as found:
        model(images)
    return torch.cat([one.maps for one in found])[: len(images)]


def enlarged_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, K, H, W): maps of patches as those of pixels, bilinearly."""
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def mean_part_iou(first: Tensor, second: Tensor, parts: int, inside: Tensor) -> Tensor:
    """(N,) float32: the intersection over union of two assignments (N, H, W), averaged over the parts that occur in either.

    parts: how many there are, numbered from 0; pixels of other numbers, the background's, are in none. inside: (N, H, W) bool, the pixels
    that count. 0 where no part occurs.
    """
    overlaps, occurring = first.new_zeros(len(first), dtype=torch.float64), first.new_zeros(len(first))
    for part in range(parts):
        one, two = (first == part) & inside, (second == part) & inside
        union = (one | two).sum(dim=(1, 2))
        overlaps += (one & two).sum(dim=(1, 2)) / union.clamp_min(1)
        occurring += union > 0
    return (overlaps / occurring.clamp_min(1)).float()
