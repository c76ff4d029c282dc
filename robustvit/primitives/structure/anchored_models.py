"""Surgery that puts anchors into timm's vision transformers, Twins and Swin, so that circular shifts leave their logits as they are."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.structure.anchoring import AnchoredConvolution, FeatureAnchor, ImageAnchor, Sides
from robustvit.primitives.structure.equivariance_probe import module_that_breaks
from robustvit.primitives.structure.position_convolution import PositionConvolution, drop_positions


class AnchoredTokens(nn.Module):
    """A block of Twins behind an anchor of its tokens, the residual stream; what it returns is not rolled back."""

    def __init__(self, anchor: FeatureAnchor, block: nn.Module) -> None:
        super().__init__()
        self.anchor, self.block = anchor, block

    def forward(self, tokens: Tensor, size: Sides) -> Tensor:
        """(N, T, D) → (N, T, D). size: rows and columns of tokens."""
        maps = tokens.reshape(len(tokens), *size, -1)
        made: Tensor = self.block(self.anchor(maps).flatten(1, 2), size)
        return made


class Anchored(nn.Module):
    """A module of maps (N, H, W, C) behind an anchor of these."""

    def __init__(self, anchor: FeatureAnchor, inner: nn.Module) -> None:
        super().__init__()
        self.anchor, self.inner = anchor, inner

    def forward(self, features: Tensor) -> Tensor:
        """(N, H, W, C) → what the inner module returns."""
        made: Tensor = self.inner(self.anchor(features))
        return made


class _Grid(NamedTuple):
    """What is known of a map on the way through a model: its size, and at which multiples shifted ones lie apart."""

    size: Sides
    aligned: Sides

    def check(self, step: Sides, what: str) -> None:
        """Raises HostRefused where a step does not divide the size."""
        if self.size[0] % step[0] or self.size[1] % step[1]:
            raise HostRefused(
                f"its {what} of {step[0]}x{step[1]} do not divide {self.size[0]}x{self.size[1]}; anchoring takes sizes that they divide."
            )

    def lies_at(self, step: Sides) -> bool:
        """Whether shifted maps lie apart by whole steps already."""
        return self.aligned[0] % step[0] == 0 and self.aligned[1] % step[1] == 0

    def anchored(self, step: Sides) -> _Grid:
        """Behind an anchor at this stride."""
        return self._replace(aligned=step)

    def strided(self, step: Sides) -> _Grid:
        """After something that reads it in strides."""
        (height, width), (down, across) = self.size, self.aligned
        return _Grid((height // step[0], width // step[1]), (max(1, down // step[0]), max(1, across // step[1])))


def anchor_model(module: nn.Module, size: Sides, mean: Tensor, std: Tensor) -> nn.Module:
    """Puts anchors into timm's VisionTransformer, DeiT, Twins or Swin for images of this size, in place; returns the module.

    mean, std: (1, C, 1, 1), of the normalisation. Weights that it adds are drawn by torch's generator. Raises HostRefused where sizes do
    not divide, and for a module that computes other numbers for a shifted image, by its name: zero padding anywhere is one.
    """
    vit: Any = module
    if any(isinstance(part, (ImageAnchor, FeatureAnchor)) for part in vit.modules()):
        raise HostRefused("it is anchored already.")
    grid = _Grid(size, (1, 1))
    if type(vit).__name__ == "Twins":
        _anchor_twins(vit, grid, mean, std)
    elif type(vit).__name__ == "SwinTransformer":
        _anchor_swin(vit, grid, mean, std)
    else:
        _embed(vit.patch_embed, grid, mean, std, PositionConvolution(vit.embed_dim, circular=True).to(mean))
        drop_positions(vit)
    if named := module_that_breaks(module, mean.numel(), size):
        raise HostRefused(f"{named} computes other numbers for a shifted image; all that an anchored model pads is padded circularly.")
    return module


def _embed(embed: Any, grid: _Grid, mean: Tensor, std: Tensor, positions: nn.Module | None = None) -> _Grid:
    """Anchors images before their patch embedding; the grid behind it."""
    if not isinstance(embed.proj, nn.Conv2d):
        raise HostRefused(f"its patch embedding is {with_article(type(embed.proj).__name__)}, and no convolution.")
    stride: Any = embed.proj.stride
    grid.check(stride, "patches")
    embed.proj = AnchoredConvolution(ImageAnchor(stride, mean, std), embed.proj, positions)
    return grid.anchored(stride).strided(stride)


def _anchor_twins(twins: Any, grid: _Grid, mean: Tensor, std: Tensor) -> None:
    for stage, (embed, blocks, positions) in enumerate(zip(twins.patch_embeds, twins.blocks, twins.pos_block, strict=True)):
        if stage == 0:
            grid = _embed(embed, grid, mean, std)
        else:
            stride = embed.proj.stride
            grid.check(stride, "patches")
            if not grid.lies_at(stride):
                embed.proj = AnchoredConvolution(FeatureAnchor(stride), embed.proj)
                grid = grid.anchored(stride)
            grid = grid.strided(stride)
        for index, block in enumerate(blocks):
            side, what = _reads(block.attn)
            step = (side, side)
            grid.check(step, what)
            if side > 1:
                blocks[index] = AnchoredTokens(FeatureAnchor(step, last=True), block)
                grid = grid.anchored(step)
        positions.proj[0] = _circular(positions.proj[0])


def _reads(attention: Any) -> tuple[int, str]:
    """The side of what Twins' attention reads at once, and what that is."""
    if hasattr(attention, "ws"):
        return attention.ws, "windows"
    return getattr(attention, "sr_ratio", 1), "reductions of keys"


def _circular(conv: Any) -> nn.Module:
    """A convolution of the very weights that pads circularly."""
    made = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, groups=conv.groups, bias=conv.bias is not None,
        padding_mode="circular", device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    made.weight, made.bias = conv.weight, conv.bias
    return made


def _anchor_swin(swin: Any, grid: _Grid, mean: Tensor, std: Tensor) -> None:
    """Anchors unshifted windows and, where these do not lie at pairs of rows and columns, merging.

    Windows shifted by half of theirs follow the anchor of the block before them, and take the shift without the mask that would keep the
    sides of the image apart.
    """
    grid = _embed(swin.patch_embed, grid, mean, std)
    for stage in swin.layers:
        if not isinstance(stage.downsample, nn.Identity):
            grid.check((2, 2), "patches to be merged")
            if not grid.lies_at((2, 2)):
                stage.downsample = Anchored(FeatureAnchor((2, 2), last=True), stage.downsample)
                grid = grid.anchored((2, 2))
            grid = grid.strided((2, 2))
        for index, block in enumerate(stage.blocks):
            step = tuple(block.window_size)
            grid.check(step, "windows")
            block.get_attn_mask = _no_mask
            block.attn_mask = None
            if not (any(block.shift_size) and grid.lies_at(step)):
                stage.blocks[index] = Anchored(FeatureAnchor(step, last=True), block)
                grid = grid.anchored(step)


def _no_mask(*_: Any, **__: Any) -> None:
    """In place of Swin's mask of windows across the sides of an image."""
