"""A block behind a vision transformer that takes out of its patch tokens what their positions alone put there."""

from __future__ import annotations

import functools
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.surgery.hosts import plain_vit

_HEAD = 64  # channels of a head
_EPS = 1e-6  # of layer norms, as timm's vision transformers have it


class FeatureDenoiser(nn.Module):
    """Patch tokens plus a learned map of positions, through blocks of timm. At first it changes nothing.

    resampled: whether it takes grids of other sizes in the proportions of `grid`, to which the map is then resampled.
    """

    def __init__(self, width: int, grid: tuple[int, int], blocks: int, resampled: bool) -> None:
        super().__init__()
        self.grid, self.resampled = grid, resampled
        self.positions = nn.Parameter(torch.zeros(1, width, *grid))
        heads = max(count for count in range(1, max(1, width // _HEAD) + 1) if width % count == 0)
        norm: Any = functools.partial(nn.LayerNorm, eps=_EPS)
        self.layers = nn.Sequential(*(Block(width, heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm) for _ in range(blocks)))
        for name, last in self.layers.named_modules():
            if isinstance(last, nn.Linear) and name.endswith(("attn.proj", "mlp.fc2")):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, P, D) → (N, P, D). Raises ModelError for tokens that are not those of a whole grid."""
        grid = self._grid(patches.shape[1])
        positions: Tensor = self.positions
        if grid != self.grid:
            positions = functional.interpolate(positions, grid, mode="bicubic", antialias=True)
        denoised: Tensor = self.layers(patches + positions.flatten(2).transpose(1, 2).to(patches.dtype))
        return denoised

    def _grid(self, count: int) -> tuple[int, int]:
        rows, columns = self.grid
        scaled = round((count * rows / columns) ** 0.5)
        if count != rows * columns and not (self.resampled and scaled * (scaled * columns // rows) == count):
            raise ModelError(
                f"the feature denoiser takes all {rows}x{columns} patch tokens of an image, not {count}; nothing may drop or merge them "
                "before."
            )
        return self.grid if count == rows * columns else (scaled, count // scaled)


class DenoisedNorm(nn.Module):
    """The last norm of a vision transformer, whose patch tokens a denoiser then changes; prefix tokens stay."""

    whole_grid = True
    """It reads tokens in their places, and takes all of them."""

    def __init__(self, norm: nn.Module, denoiser: FeatureDenoiser, prefix: int) -> None:
        super().__init__()
        self.norm, self.denoiser, self.prefix = norm, denoiser, prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        normed: Tensor = self.norm(tokens)
        return torch.cat((normed[:, : self.prefix], self.denoiser(normed[:, self.prefix :])), dim=1)


def denoise_features(module: nn.Module, blocks: int) -> nn.Module:
    """Puts a denoiser of so many blocks behind the last norm of timm's plain vision transformer, in place; returns the module. 0: does
    nothing.

    The last layers of its residual branches and its map of positions begin at zero, so that logits stay until it is trained; the other
    weights are drawn by torch's generator.
    """
    vit: Any = plain_vit(module)
    if blocks:
        denoiser = FeatureDenoiser(vit.embed_dim, tuple(vit.patch_embed.grid_size), blocks, bool(vit.dynamic_img_size))
        vit.norm = DenoisedNorm(vit.norm, denoiser.to(next(vit.parameters())), vit.num_prefix_tokens)
    return module
