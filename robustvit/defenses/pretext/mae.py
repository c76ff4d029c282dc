"""Masked autoencoding: a vision transformer learns, without labels, the pixels of patches that it is not shown."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Gt, Lt
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from robustvit.defenses.pretext.patch_tokens import embedded, encoded, fix_positions, rows_of, sines, without
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.training.block_order import transformer_in
from robustvit.primitives.training.on_pixels import normalised
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{he2022masked,
  title={Masked Autoencoders Are Scalable Vision Learners},
  author={He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r, Piotr and Girshick, Ross},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2022}
}"""
_NAME = "mae"
_FLAT = 1e-6  # added to the variance of a patch, as the authors do: a patch of one colour then has targets of 0


@defense(
    family="pretext", source="He et al. 2022 (MAE)", url="https://arxiv.org/abs/2111.06377", citation=_CITATION,
    licence="the authors' code is CC BY-NC 4.0; this is written from the paper",
    rules="A pretext: it trains no classifier, and the head that is kept is as it was. Train on from the checkpoint, and report the epochs "
    "of both. The paper crops at random (scale 0.2 to 1) and mirrors: add random_resized_crop.",
)  # fmt: skip
def mae(
    *, ratio: Annotated[float, Gt(0), Lt(1)] = 0.75, normalise: bool = True, width: Count = 512, blocks: Count = 8, heads: Count = 16,
) -> Defense:  # fmt: skip
    """Masked autoencoding (He et al. 2022): the mean squared error of the pixels of patches that are not shown.

    ratio: the share of patches that the encoder is not shown, drawn for each image. normalise: the pixels of a patch are compared after
    subtracting their mean and dividing by their deviation. width, blocks, heads: of the decoder, which is not kept. Position embeddings are
    set to fixed sines and cosines, in encoder and decoder. Takes timm's plain vision transformers with learned positions.
    """

    def prepare(model: nn.Module) -> nn.Module:
        vit: Any = plain_host(model, _NAME)
        _check(vit, ratio)
        fix_positions(vit, _NAME)
        vit.pixel_decoder = PixelDecoder(vit, width, blocks, heads).to(vit.pos_embed)
        return model

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        vit = transformer_in(model, _NAME)
        images = normalised(model, batch.shown)
        masks = drawn_masks(draws, vit.patch_embed.num_patches, ratio)
        found = reconstruction(vit, images, masks)
        return masked_error(found, pixel_targets(images, vit.patch_embed.patch_size, normalise), masks.masked)

    return Defense(_NAME, prepare=prepare, loss=loss, export=lambda model: without(model, "pixel_decoder"))


class Masks(NamedTuple):
    """shown: (N, n) int64, the patches that the encoder is shown. places: (N, L) int64, where each patch is in a shuffled row.

    Shuffled rows begin with the patches shown. masked: (N, L) bool, the others.
    """

    shown: Tensor
    places: Tensor
    masked: Tensor


class PixelDecoder(nn.Module):
    """Blocks over the tokens of patches shown and a learned token for all others, at fixed positions, and a linear layer to pixels."""

    positions: Tensor

    def __init__(self, vit: Any, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise BadParameter(f"'{_NAME}': width is {width}, which {heads} heads do not divide.")
        self.narrow = nn.Linear(vit.embed_dim, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, heads, qkv_bias=True) for _ in range(blocks))
        pixels = vit.patch_embed.proj.in_channels * math.prod(vit.patch_embed.patch_size)
        self.norm, self.pixels = nn.LayerNorm(width), nn.Linear(width, pixels)
        self.register_buffer("positions", sines(vit.patch_embed.grid_size, width, _NAME), persistent=False)
        self.apply(_initialise)
        nn.init.normal_(self.mask, std=0.02)

    def forward(self, tokens: Tensor, prefix: int, places: Tensor) -> Tensor:
        """(N, prefix + n, D) → (N, L, pixels of a patch). places: (N, L), as in Masks."""
        narrow = self.narrow(tokens)
        others = self.mask.to(narrow).expand(len(narrow), places.shape[1] + prefix - narrow.shape[1], -1)
        patches = rows_of(torch.cat((narrow[:, prefix:], others), dim=1), places) + self.positions.to(narrow)
        tokens = torch.cat((narrow[:, :prefix], patches), dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        pixels: Tensor = self.pixels(self.norm(tokens))[:, prefix:]
        return pixels


def drawn_masks(draws: Draws, count: int, ratio: float) -> Masks:
    """Which of so many patches each image shows, uniformly drawn, and in what order."""
    order = draws.permutation(count)
    shown = order[:, : _kept(count, ratio)]
    return Masks(shown, order.argsort(dim=1), torch.ones_like(order, dtype=torch.bool).scatter(1, shown, False))


def reconstruction(vit: Any, images: Tensor, masks: Masks) -> Tensor:
    """(N, L, pixels of a patch): the decoder's pixels of all patches, of which only those shown are encoded. images: normalised."""
    patches, prefix, positions = embedded(vit, images)
    tokens = torch.cat((prefix, rows_of(patches + positions, masks.shown)), dim=1)
    found: Tensor = vit.pixel_decoder(encoded(vit, tokens), prefix.shape[1], masks.places)
    return found


def pixel_targets(images: Tensor, size: tuple[int, int], normalise: bool) -> Tensor:
    """(N, L, C·height·width): the pixels of each patch of that size; less their mean, over the root of their unbiased variance."""
    parts = images.unfold(2, size[0], size[0]).unfold(3, size[1], size[1])
    pixels = parts.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    if not normalise:
        return pixels
    return (pixels - pixels.mean(dim=2, keepdim=True)) / (pixels.var(dim=2, keepdim=True) + _FLAT).sqrt()


def masked_error(found: Tensor, targets: Tensor, masked: Tensor) -> Tensor:
    """() the mean over masked patches of the mean squared error of their pixels. found, targets: (N, L, pixels); masked: (N, L) bool."""
    each = (found - targets).square().mean(dim=2)
    return (each * masked).sum() / masked.sum()


def _kept(count: int, ratio: float) -> int:
    return int(count * (1 - ratio))


def _check(vit: Any, ratio: float) -> None:
    count = vit.patch_embed.num_patches
    if not 0 < _kept(count, ratio) < count:
        raise HostRefused(
            f"'{_NAME}' shows some of the patches and not all, and ratio {ratio:g} shows {_kept(count, ratio)} of {count}; choose a "
            f"{'lower' if _kept(count, ratio) == 0 else 'higher'} ratio."
        )


def _initialise(module: nn.Module) -> None:
    """Linear layers as the paper has them: Xavier's uniform weights, no bias."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
