"""The attention diversification loss: queries that attend to the same few tokens are penalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.training.attention import trained_attention
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{guo2023robustifying,
  title={Robustifying Token Attention for Vision Transformers},
  author={Guo, Yong and Stutz, David and Schiele, Bernt},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2023}
}"""
_SMALLEST = 1e-8  # the least length of a row in the cosine, as in torch: a row without a large entry is similar to none


@defense(
    family="structure", source="Guo et al. 2023", url="https://arxiv.org/abs/2303.11126", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="With `tap` it is TAPADL. A forward and a backward pass more. Differs from the paper, whose models have no class token and whose "
    "maps are those of the forward pass of the loss: prefix tokens count as others do, and the maps are of a pass of their own, on the "
    "adversarial images where there are any, so that it goes with every loss.",
)  # fmt: skip
def adl(*, weight: NonNegative = 1.0, threshold: NonNegative = 2.0) -> Defense:
    """Attention diversification loss (ADL, Guo et al. 2023): the cosine between each query's large attention and the mean query's.

    weight: of the penalty, the mean over images, queries and blocks; 0 is none. threshold: attention, averaged over heads, is large above
    so many times the uniform 1/T; what is not counts as 0. Attention that is uniform everywhere costs 0, and the same few tokens for all
    queries cost 1. Raises ModelError for models that attend within windows.
    """

    def penalty(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return weight * attention_similarity(trained_attention(model, batch.shown).maps, threshold)

    return Defense("adl", penalty=penalty) if weight else Defense("adl")


def attention_similarity(maps: list[Tensor], threshold: float) -> Tensor:
    """() the mean cosine between the large entries of each query's row and those of the mean row. maps: (N, heads, T, T) for each block.

    The gradient flows through the entries, not through the choice of the large ones.
    """
    return torch.stack([_of_block(one.float() if one.dtype != torch.float64 else one, threshold) for one in maps]).mean()


def _of_block(found: Tensor, threshold: float) -> Tensor:
    each = found.mean(dim=1)
    mean = each.mean(dim=1, keepdim=True)
    least = threshold / each.shape[-1]
    return functional.cosine_similarity(mean * (mean > least), each * (each > least), dim=-1, eps=_SMALLEST).mean()
