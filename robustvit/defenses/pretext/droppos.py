"""DropPos: a vision transformer learns, without labels, where patches are that lost their positions."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, Lt
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from robustvit.defenses.pretext.patch_tokens import embedded, encoded, fix_positions, rows_of, without
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative
from robustvit.primitives.training.block_order import transformer_in
from robustvit.primitives.training.on_pixels import normalised
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{wang2023droppos,
  title={DropPos: Pre-Training Vision Transformers by Reconstructing Dropped Positions},
  author={Wang, Haochen and Fan, Junsong and Wang, Yuxi and Song, Kaiyou and Wang, Tong and Zhang, Zhaoxiang},
  booktitle={Advances in Neural Information Processing Systems},
  year={2023}
}"""
_NAME = "droppos"
_TEMPERATURE = 0.1  # of the attentive weights


@defense(
    family="pretext", source="Wang et al. 2023", url="https://arxiv.org/abs/2309.03576", citation=_CITATION,
    licence="the authors' code is Apache-2.0; this is written from the paper and facts of the code",
    rules="A pretext: it trains no classifier, and the head that is kept is as it was. Train on from the checkpoint. Differs from the "
    "authors' code: smoothed targets sum to 1 for each patch, where theirs are normalised along the other axis.",
)  # fmt: skip
def droppos(
    *, mask: Annotated[float, Ge(0), Lt(1)] = 0.75, drop: Annotated[float, Gt(0), Le(1)] = 0.75, sigma: NonNegative = 1.0,
    attentive: bool = True, width: Count = 512, blocks: Count = 2, heads: Count = 16,
) -> Defense:  # fmt: skip
    """DropPos (Wang et al. 2023): of some patches most lose their positions, and where they were is classified.

    mask: the share of patches that are not shown. drop: of those shown, the share without position. Targets are exp(−d²/σ²) over all
    places, d in patches; sigma falls from this to 0 over the epochs, where they are hard. attentive: patches weigh by the softmax of their
    cosine with the class token, of the whole image, at temperature 0.1. width, blocks, heads: of the decoder, which sees no positions and
    is not kept. Position embeddings are set to fixed sines and cosines. Takes timm's plain vision transformers with learned positions.
    """

    def prepare(model: nn.Module) -> nn.Module:
        vit: Any = plain_host(model, _NAME)
        _check(vit, mask, attentive)
        fix_positions(vit, _NAME)
        vit.position_decoder = PositionDecoder(vit.embed_dim, vit.patch_embed.num_patches, width, blocks, heads).to(vit.pos_embed)
        return model

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        vit = transformer_in(model, _NAME)
        images = normalised(model, batch.shown)
        count = vit.patch_embed.num_patches
        shown, dropped = drawn_patches(draws, count, mask, drop)
        logits = place_logits(vit, images, shown, dropped)
        share = 1 - batch.progress.epoch / batch.progress.epochs
        targets = place_targets(vit.patch_embed.grid_size, sigma * share).to(logits)[shown]
        weights = attentive_weights(vit, images).gather(1, shown) if attentive else torch.ones_like(shown, dtype=logits.dtype)
        return position_loss(logits, targets, weights * dropped)

    return Defense(_NAME, prepare=prepare, loss=loss, export=lambda model: without(model, "position_decoder"))


class PositionDecoder(nn.Module):
    """Blocks without positions, and a linear layer to places; `mask` is the token in place of a dropped position."""

    def __init__(self, encoder: int, places: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise BadParameter(f"'{_NAME}': width is {width}, which {heads} heads do not divide.")
        self.mask = nn.Parameter(torch.zeros(encoder))
        nn.init.normal_(self.mask, std=0.02)
        self.narrow = nn.Linear(encoder, width)
        self.blocks = nn.ModuleList(Block(width, heads, qkv_bias=True) for _ in range(blocks))
        self.norm, self.place = nn.LayerNorm(width), nn.Linear(width, places)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, places)."""
        tokens = self.narrow(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        places: Tensor = self.place(self.norm(tokens))
        return places


def drawn_patches(draws: Draws, count: int, mask: float, drop: float) -> tuple[Tensor, Tensor]:
    """(N, n) int64, which patches of each image are shown, in random order, and (N, n) bool, which of them lose their positions."""
    shown = draws.permutation(count)[:, : int(count * (1 - mask))]
    known = int(shown.shape[1] * (1 - drop))
    dropped = torch.arange(shown.shape[1], device=shown.device) >= known
    return shown, dropped.expand(shown.shape)


def place_logits(vit: Any, images: Tensor, shown: Tensor, dropped: Tensor) -> Tensor:
    """(N, n, L): logits of the places of the patches shown. images: normalised. No gradient flows into position embeddings."""
    patches, prefix, positions = embedded(vit, images)
    places = torch.where(dropped[:, :, None], vit.position_decoder.mask, positions[shown])
    tokens = rows_of(patches, shown) + places
    logits: Tensor = vit.position_decoder(encoded(vit, torch.cat((prefix, tokens), dim=1)))[:, prefix.shape[1] :]
    return logits


def place_targets(grid: tuple[int, int], sigma: float) -> Tensor:
    """(L, L): for each patch of a grid the distribution over places, exp(−d²/σ²) normalised; one-hot for sigma 0."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack((rows.flatten(), columns.flatten()), dim=1).double()
    if sigma == 0:
        return torch.eye(len(places), dtype=torch.float64)
    near = (-(torch.cdist(places, places) ** 2) / sigma**2).exp()
    return near / near.sum(dim=1, keepdim=True)


@torch.no_grad()
def attentive_weights(vit: Any, images: Tensor) -> Tensor:
    """(N, L): the softmax over patches of their cosine with the class token, of whole images at all positions."""
    patches, prefix, positions = embedded(vit, images)
    tokens = encoded(vit, torch.cat((prefix, patches + positions), dim=1))
    similar = functional.cosine_similarity(tokens[:, :1], tokens[:, prefix.shape[1] :], dim=-1)
    return (similar / _TEMPERATURE).softmax(dim=1)


def position_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """() the weighted mean cross-entropy. logits, targets: (N, n, L); weights: (N, n), not all 0."""
    each = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)
    return (weights * each).sum() / weights.sum()


def _check(vit: Any, mask: float, attentive: bool) -> None:
    if vit.pos_embed is None or int(vit.patch_embed.num_patches * (1 - mask)) < 1:
        raise HostRefused(f"'{_NAME}' shows at least one patch of a model with position embeddings; choose a lower mask, or another model.")
    if attentive and vit.cls_token is None:
        raise HostRefused(f"'{_NAME}' weighs patches by the class token, and the model to train has none; choose attentive=false.")
