"""A classifier that reads its logits from parts of an image, which it finds by prototypes without being told any (PDiscoFormer)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.surgery.layer_roles import head_layers

_LEAST = 4  # rows and columns of patches: of fewer, windows of three have no place besides the middle
_STD = 0.02  # of the head's initial weights, as in the authors' code


class Parts(NamedTuple):
    """The parts of N images; the last of them is the background.

    maps: (N, K + 1, rows, columns), how far each patch belongs to each part, which sums to 1 over parts. features: (N, K + 1, D), the mean
    over patches of their tokens times the map.
    """

    maps: Tensor
    features: Tensor


class PartAssignment(nn.Module):
    """Assigns patch tokens to prototypes: the softmax over prototypes of −|f − p|². count: K, of parts besides the background."""

    def __init__(self, width: int, count: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.prototypes = nn.Parameter(torch.empty(count + 1, width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, tokens: Tensor) -> Parts:
        """(N, P, D) → the parts. Raises ModelError for tokens that are not those of the whole grid."""
        rows, columns = self.grid
        if tokens.shape[1] != rows * columns:
            raise ModelError(
                f"parts are found on all {rows}x{columns} patch tokens of an image, not {tokens.shape[1]}; nothing may drop or merge them "
                "before."
            )
        near = 2 * tokens @ self.prototypes.T - self.prototypes.square().sum(dim=1)  # |f|² is the same for all prototypes
        maps = near.softmax(dim=2).transpose(1, 2)
        return Parts(maps.reshape(len(maps), -1, rows, columns), maps @ tokens / tokens.shape[1])


class PartViT(nn.Module):
    """timm's plain vision transformer whose logits are the mean of those of K parts, by one linear head for all of them.

    Features of parts are multiplied by learned gains, `modulation`, before the head, which has no bias; in training whole parts are left
    out at random. The background has no logits.
    """

    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, backbone: Any, count: int, classes: int, dropout: float) -> None:
        super().__init__()
        width = backbone.embed_dim
        self.backbone, self.prefix = backbone, backbone.num_prefix_tokens
        self.assignment = PartAssignment(width, count, tuple(backbone.patch_embed.grid_size))
        self.modulation = nn.Parameter(torch.ones(count + 1, width))
        self.part_dropout, self.head = nn.Dropout1d(dropout), nn.Linear(width, classes, bias=False)
        nn.init.trunc_normal_(self.head.weight, std=_STD)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), normalised → (N, K) logits."""
        tokens = self.backbone.fc_norm(self.backbone.forward_features(images)[:, self.prefix :])
        found: Parts = self.assignment(tokens)
        logits: Tensor = self.head(self.part_dropout((found.features * self.modulation)[:, :-1])).mean(dim=1)
        return logits


def find_parts(module: nn.Module, count: int, dropout: float = 0.0) -> nn.Module:
    """timm's plain vision transformer as a PartViT of so many parts, for as many classes as it has; the module itself for 0.

    Its own head is taken out; other weights are its own, and those of the parts are drawn by torch's generator. Raises HostRefused where it
    finds parts already, has no linear head, pools by attention, or has a grid of fewer than 4x4 patches.
    """
    if not count:
        return module
    if isinstance(module, PartViT):
        raise HostRefused(f"it finds {len(module.modulation) - 1} parts already.")
    backbone: Any = module
    heads = head_layers(module)
    if not heads or backbone.attn_pool is not None:
        raise HostRefused("it has no linear layer that makes its logits of one token or of a mean, in whose place parts could make them.")
    if min(backbone.patch_embed.grid_size) < _LEAST or backbone.dynamic_img_size:
        rows, columns = backbone.patch_embed.grid_size
        raise HostRefused(
            f"it has a grid of {rows}x{columns} patches; parts are found on one of at least {_LEAST}x{_LEAST} and of one size."
        )
    head: Any = heads[0].layer
    backbone.reset_classifier(0)
    return PartViT(backbone, count, head.out_features, dropout).to(head.weight)


def part_model(model: nn.Module) -> PartViT | None:
    """The PartViT in a module, or None."""
    return next((one for one in model.modules() if isinstance(one, PartViT)), None)
