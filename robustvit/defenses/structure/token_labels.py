"""Token-label alignment: the target of a CutMix image follows the attention that its tokens receive."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.training.attention import trained_attention
from robustvit.primitives.training.block_order import transformer_in
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{xiao2023token,
  title={Token-Label Alignment for Vision Transformers},
  author={Xiao, Han and Zheng, Wenzhao and Zhu, Zheng and Zhou, Jie and Lu, Jiwen},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2023}
}"""
_NAME = "token_labels"


class TokenMix(NamedTuple):
    """images: (N, 3, H, W); inside: (N, h, w) bool, the patches that are another image's."""

    images: Tensor
    inside: Tensor


@defense(
    family="structure", source="Xiao et al. 2023 (TL-Align)", url="https://arxiv.org/abs/2210.06455", citation=_CITATION,
    licence="the authors' code has no licence; this is written from the paper and facts of the code",
    rules="The partner of an image is the one at its place from the end of the batch, so that a row depends on its company. Differs from "
    "the authors' code: each image draws its own box, where theirs is one for a batch. Stands beside CutMix, not beside plain training.",
)  # fmt: skip
def token_labels(*, smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1) -> Defense:
    """Token-label alignment (TL-Align, Xiao et al. 2023): CutMix along patches, with the label that attention carries to the output.

    Every token begins with the label of the image that it is from, and prefix tokens with the mixture by area. In each block labels are
    averaged as tokens are, Y ← (Y + A·Y)/2, with A the map averaged over heads and without its gradient; the target is that of the token,
    or the mean of the tokens, that logits are read from. smoothing: of the labels. Takes timm's plain vision transformers.
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        vit = transformer_in(model, _NAME)
        mixed = mix_patches(batch.shown, draws, tuple(vit.patch_embed.grid_size))
        found = trained_attention(model, mixed.images)
        begun = labels_of_tokens(_distributions(batch, found.logits.shape[1], smoothing), mixed.inside, vit.num_prefix_tokens)
        return functional.cross_entropy(found.logits, _read(vit, aligned(begun, found.maps)))

    return Defense(_NAME, prepare=lambda model: _pooled_host(plain_host(model, _NAME)), loss=loss)


def mix_patches(images: Tensor, draws: Draws, grid: tuple[int, int]) -> TokenMix:
    """CutMix along patches: a box of 1 − λ of the grid is the partner's, λ uniform in [0, 1], its centre uniform, cut at the edges.

    The partner of row i of N is row N − 1 − i. images: (N, 3, H, W), in whole patches.
    """
    share, *centres = draws.uniform(3).unbind(dim=1)
    inside = torch.ones(len(images), *grid, dtype=torch.bool, device=images.device)
    for axis, (size, centre) in enumerate(zip(grid, centres, strict=True), start=1):
        half = (size * (1 - share).sqrt()).int() // 2
        middle = (size * centre).int()
        places = torch.arange(size, device=images.device)
        within = (places >= (middle - half)[:, None]) & (places < (middle + half)[:, None])
        inside &= within[:, :, None] if axis == 1 else within[:, None, :]
    pixels = inside[:, None].repeat_interleave(images.shape[2] // grid[0], dim=2).repeat_interleave(images.shape[3] // grid[1], dim=3)
    return TokenMix(torch.where(pixels, images.flip(0), images), inside)


def labels_of_tokens(labels: Tensor, inside: Tensor, prefix: int) -> Tensor:
    """(N, prefix + h·w, K): labels (N, K) by token; prefix tokens have the mixture by area. inside: as of TokenMix."""
    taken = inside.flatten(1)[:, :, None]
    patches = torch.where(taken, labels.flip(0)[:, None], labels[:, None])
    return torch.cat((patches.mean(dim=1, keepdim=True).expand(-1, prefix, -1), patches), dim=1)


def aligned(labels: Tensor, maps: list[Tensor]) -> Tensor:
    """(N, T, K): labels of tokens after all blocks. maps: (N, heads, T, T) for each block."""
    for found in maps:
        labels = (labels + found.detach().mean(dim=1).to(labels) @ labels) / 2
    return labels


def _distributions(batch: Batch, classes: int, smoothing: float) -> Tensor:
    """(N, K): the targets as smoothed distributions."""
    hard = functional.one_hot(batch.labels, classes).float() if batch.soft_labels is None else batch.soft_labels
    return hard * (1 - smoothing) + smoothing / classes


def _read(vit: Any, labels: Tensor) -> Tensor:
    """(N, K): the labels of what logits are read from."""
    return labels[:, 0] if vit.global_pool == "token" else labels[:, vit.num_prefix_tokens :].mean(dim=1)


def _pooled_host(vit: Any) -> nn.Module:
    if vit.global_pool not in ("token", "avg") or getattr(vit, "head_dist", None) is not None:
        raise HostRefused(
            f"'{_NAME}' takes models whose logits are read from the class token or the mean of patch tokens; this one pools otherwise."
        )
    made: nn.Module = vit
    return made
