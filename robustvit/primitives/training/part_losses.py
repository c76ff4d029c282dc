"""What parts of images are trained to be (PDiscoFormer): losses of part maps (N, K + 1, h, w), of which the last is the background's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_WINDOW = 3  # patches over which a map is averaged where its largest value is read
_LEAST_LOG = -100.0  # as in torch's binary cross-entropy: of a background that is nowhere


def presence_loss(maps: Tensor) -> Tensor:
    """(): 1 − the mean over parts of the largest value that a map, averaged over windows of 3x3, has anywhere in the batch."""
    largest: Tensor = functional.avg_pool2d(maps, _WINDOW, stride=1).amax(dim=(0, 2, 3))
    return 1 - largest.mean()


def background_presence_loss(maps: Tensor) -> Tensor:
    """(): −ln, averaged over images, of the largest value that the background has, averaged over windows and times r².

    r²: the squared distance from the centre of the grid of windows, each axis from −1 to 1, as a share of that of the corners.
    """
    background = functional.avg_pool2d(maps[:, -1:], _WINDOW, stride=1)[:, 0]
    rows, columns = (torch.linspace(-1, 1, side, dtype=maps.dtype, device=maps.device).square() for side in background.shape[1:])
    largest = (background * (rows[:, None] + columns) / 2).amax(dim=(1, 2))
    return -largest.log().clamp_min(_LEAST_LOG).mean()


def pixel_entropy_loss(maps: Tensor) -> Tensor:
    """(): the entropy of what a patch belongs to, in nats, averaged over patches and images."""
    entropies: Tensor = torch.special.entr(maps).sum(dim=1)
    return entropies.mean()


def equivariance_loss(maps: Tensor, moved_back: Tensor) -> Tensor:
    """(): 1 − the cosine of a map and of that of a moved image, moved back, averaged over images and over parts but the background."""
    return 1 - functional.cosine_similarity(maps[:, :-1].flatten(2), moved_back[:, :-1].flatten(2), dim=2).mean()


def orthogonality_loss(features: Tensor) -> Tensor:
    """(): the mean square of the cosines between the features (N, K + 1, D) of each two parts, less 1 where they are the same."""
    unit = functional.normalize(features, dim=2)
    same = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    return (unit @ unit.transpose(1, 2) - same).square().mean()


def total_variation_loss(maps: Tensor) -> Tensor:
    """(): the absolute differences between neighbours, down and across, summed over parts and averaged over images and patches."""
    down, across = maps.diff(dim=2).abs().sum(), maps.diff(dim=3).abs().sum()
    return (down + across) / (maps.shape[0] * maps.shape[2] * maps.shape[3])
