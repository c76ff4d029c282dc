"""One skeleton for architectures of stages: embed → stages of blocks (mixer, then feed-forward) → merge between them → norm → mean → head.

Tokens are a map (N, H, W, D) throughout; a sequence is a map of one column. A paper's own idea is its mixer, embedding or merge, a module
from such maps to such maps, which its architecture hands over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn

from robustvit.errors import BadParameter

Positions: TypeAlias = Literal["none", "learned", "peg"]
_EPS = 1e-6  # of layer norms, as in every vision transformer since DeiT
_STD = 0.02  # of random weights


class Pyramid(nn.Module):
    """(N, 3, H, W) normalised images → (N, num_classes) logits.

    embed: images to a map. merges: one fewer than stages, each from a stage's map to the next one's. widths, depths: D and the number of
    blocks of each stage. mixer: makes the mixer of a block from its stage and D. positions: `learned` adds a map of parameters where a
    stage begins, which fixes the size of images; `peg` a 3×3 depth-wise convolution after a stage's first block (Chu et al. 2021).
    size: (H, W) of the images. Raises BadParameter where lengths differ or the images leave a stage without tokens.
    """

    def __init__(
        self,
        embed: nn.Module,
        merges: Sequence[nn.Module],
        mixer: Callable[[int, int], nn.Module],
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        size: tuple[int, int],
        num_classes: int,
        positions: Positions = "learned",
        ratio: float = 4.0,
    ) -> None:
        super().__init__()
        if not len(widths) == len(depths) == len(merges) + 1:
            raise BadParameter(f"{len(widths)} widths, {len(depths)} depths and {len(merges)} merges; a merge lies between two stages.")
        self.num_classes = num_classes
        self.embed, self.merges = embed, nn.ModuleList(merges)
        grids = _grids(embed, merges, size) if positions == "learned" else [(0, 0)] * len(widths)
        self.stages = nn.ModuleList(
            _Stage([mixer(stage, width) for _ in range(depth)], width, grid, positions, ratio)
            for stage, (width, depth, grid) in enumerate(zip(widths, depths, grids, strict=True))
        )
        self.norm, self.head = nn.LayerNorm(widths[-1], eps=_EPS), nn.Linear(widths[-1], num_classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, num_classes)."""
        logits: Tensor = self.head(self.norm(self.maps(images)[-1]).mean(dim=(1, 2)))
        return logits

    def maps(self, images: Tensor) -> list[Tensor]:
        """The map (N, H, W, D) that each stage ends with."""
        found = [self.stages[0](self.embed(images))]
        for merge, stage in zip(self.merges, list(self.stages)[1:], strict=True):
            found.append(stage(merge(found[-1])))
        return found


def patches_along(architecture: str, img_size: int, patch_size: int) -> int:
    """How many patches lie along a side of an image. Raises BadParameter, which names the architecture, where they do not divide it."""
    if img_size % patch_size:
        below = img_size // patch_size * patch_size
        raise BadParameter(
            f"{architecture}: patches of {patch_size} pixels do not divide images of {img_size}; img_size takes multiples of {patch_size}, "
            f"such as {below or patch_size}."
        )
    return img_size // patch_size


class PatchMap(nn.Module):
    """(N, 3, H, W) images → (N, H/patch, W/patch, D): a linear layer of each patch."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """The map of tokens."""
        return self.proj(images).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class GlobalAttention(nn.Module):
    """Attention between all tokens of a map."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise BadParameter(f"a width of {width} does not divide into {heads} heads.")
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, H, W, D) → (N, H, W, D)."""
        mixed: Tensor = self.attn(tokens.flatten(1, 2))
        return mixed.view(tokens.shape)


class _Stage(nn.Module):
    """Blocks of one width, with the positions of its map."""

    def __init__(self, mixers: Sequence[nn.Module], width: int, grid: tuple[int, int], positions: Positions, ratio: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(mixer, width, ratio) for mixer in mixers)
        self.position = nn.Parameter(trunc_normal_(torch.empty(1, *grid, width), std=_STD)) if positions == "learned" else None
        self.peg = nn.Conv2d(width, width, 3, padding=1, groups=width) if positions == "peg" else None

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens if self.position is None else tokens + self.position
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number == 0 and self.peg is not None:
                tokens = tokens + self.peg(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return tokens


class _Block(nn.Module):
    """x + mixer(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, mixer: nn.Module, width: int, ratio: float) -> None:
        super().__init__()
        self.norm1, self.mixer = nn.LayerNorm(width, eps=_EPS), mixer
        self.norm2, self.mlp = nn.LayerNorm(width, eps=_EPS), Mlp(width, int(width * ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.mixer(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]


def _grids(embed: nn.Module, merges: Sequence[nn.Module], size: tuple[int, int]) -> list[tuple[int, int]]:
    """(H, W) of each stage's map, of images of `size`."""
    with torch.no_grad():
        maps = [embed(torch.zeros(1, 3, *size))]
        for merge in merges:
            maps.append(merge(maps[-1]))
    return [(one.shape[1], one.shape[2]) for one in maps]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
