"""A side network that reads the tokens of a frozen vision transformer as maps of several scales (Hierarchical Side-Tuning, reduced)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.surgery.layer_roles import head_layers

_EXPANSION = 2  # of the channels inside a side block
_SCALES = 3  # twice as fine as the tokens, as they are, twice as coarse


class SideBlock(nn.Module):
    """Adds a projection of a block's tokens to the side map, and then what two pointwise layers make of each cell's surroundings.

    width: of tokens. channels: of the side map.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm, self.bridge = nn.LayerNorm(width), nn.Linear(width, channels)
        self.around = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.inner = nn.GroupNorm(1, channels)
        self.up, self.down = nn.Conv2d(channels, _EXPANSION * channels, 1), nn.Conv2d(_EXPANSION * channels, channels, 1)

    def forward(self, state: Tensor, tokens: Tensor) -> Tensor:
        """state: (N, C, h, w); tokens: (N, D, rows, columns). Returns (N, C, h, w)."""
        read = self.bridge(self.norm(tokens.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        state = state + functional.interpolate(read, state.shape[-2:], mode="bilinear", align_corners=False)
        made: Tensor = state + self.down(functional.gelu(self.up(self.inner(self.around(state)))))
        return made


class SideTuned(nn.Module):
    """timm's plain vision transformer whose logits are its own plus those of a side network, which are zero until it is trained.

    The side map begins as a convolution of the image at twice the tokens' resolution; a side block for every block of the transformer
    reads its tokens, and after each third of them the map is halved. Its mean over cells makes the logits that are added.
    """

    def __init__(self, backbone: Any, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        depth, fine = len(backbone.blocks), tuple(max(1, side // 2) for side in backbone.patch_embed.patch_size)
        thirds = (-(-depth * part // _SCALES) for part in range(1, _SCALES))
        self.halved = tuple(place for place in dict.fromkeys(thirds) if place < depth)
        self.stem = nn.Conv2d(backbone.patch_embed.proj.weight.shape[1], channels, fine, fine)
        self.blocks = nn.ModuleList(SideBlock(backbone.embed_dim, channels) for _ in range(depth))
        self.halvings = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in self.halved)
        self.last, self.side_head = nn.LayerNorm(channels), nn.Linear(channels, classes)
        with torch.no_grad():
            self.side_head.weight.zero_()
            self.side_head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), normalised → (N, K) logits."""
        features, maps = self.backbone.forward_intermediates(images, indices=len(self.blocks))
        logits: Tensor = self.backbone.forward_head(features)
        beside: Tensor = self.side_head(self.last(self.side(images, maps)))
        return logits + beside

    def side(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """(N, C): the mean of the side map. maps: (N, D, rows, columns) of each block."""
        state = self.stem(images)
        for place, (block, tokens) in enumerate(zip(self.blocks, maps, strict=True)):
            if place in self.halved:
                state = self.halvings[self.halved.index(place)](state)
            state = block(state, tokens)
        made: Tensor = state.mean(dim=(2, 3))
        return made


def add_side_network(module: nn.Module, channels: int) -> nn.Module:
    """timm's plain vision transformer with a side network of so many channels, for as many classes as it has; the module itself for 0.

    Raises HostRefused where its head is no linear layer, which makes as many logits.
    """
    if not channels:
        return module
    heads = head_layers(module)
    if not heads:
        raise HostRefused("it has no linear layer that makes its logits, to which those of the side network would be added.")
    head: Any = heads[0].layer
    return SideTuned(module, channels, head.out_features).to(head.weight)
