"""Token reduction by importance and diversity: similar attentive tokens are paired, inattentive ones are clustered."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, NamedTuple

import torch
from annotated_types import Gt, Le
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.surgery.token_merging import LEAST_WEIGHT, by_attention, merge_pairs, share_of
from robustvit.primitives.surgery.token_reduction import TokenPolicy, chosen_blocks, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.spec.registry import transform
from robustvit.transforms.token_reduction.evit import Share

_CITATION = """@inproceedings{long2023bat,
  title={Beyond Attentive Tokens: Incorporating Token Importance and Diversity for Efficient Vision Transformers},
  author={Long, Sifan and Zhao, Zhen and Pi, Jimin and Wang, Shengsheng and Wang, Jingdong},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2023}
}"""


@transform(
    family="token-reduction", source="Long et al. 2023", url="https://arxiv.org/abs/2211.11315", citation=_CITATION,
    licence="no code of the authors is public",
    rules="Reconstructed from the abstract and the published MACs, and not trained: say so beside the authors' figures. How the budget is "
    "split between clusters and pairs, the matching in two halves, and ties by index are ours. Gradients are exact on the chosen branch "
    "and blind to the choice: report restarts and a black-box attack, too.",
    hosts="plain", no_op="keep=1",
)  # fmt: skip
def bat(
    model: Classifier, *, keep: Share = 0.7, blocks: tuple[int, ...] | None = None, clusters: Annotated[float, Gt(0), Le(1)] = 0.1,
    neighbours: Count = 5,
) -> Classifier:  # fmt: skip
    """Token decoupling and merging (BAT, Long et al. 2023): pairs similar attentive tokens and clusters inattentive ones, at some blocks.

    keep: the share of patch tokens that are attentive, rounded up; as many go on as EViT lets go on with its fused token. 1 changes
    nothing. blocks: as EViT's, default 3, 6 and 9 of 12. clusters: how many clusters the inattentive tokens become, as a share of all patch
    tokens, rounded up; one attentive pair fewer than that is merged. Clusters are those of density peaks: centres have a high density
    (of the `neighbours` nearest tokens) and lie far from denser tokens. All are averaged by the class token's attention. Raises
    BadParameter for blocks that the model does not have.
    """
    return reduce_tokens(model, Decoupling(keep, chosen_blocks("bat", blocks, model), clusters, neighbours))


class Decoupling(TokenPolicy):
    """Pairs similar attentive tokens and clusters inattentive ones."""

    def __init__(self, keep: float, blocks: tuple[int, ...], clusters: float, neighbours: int) -> None:
        super().__init__()
        self.keep, self.blocks, self.clusters, self.neighbours = keep, blocks, clusters, neighbours

    def reads(self, index: int) -> Collection[str]:
        """The class token's attention, at its blocks."""
        return ("class_attention",) if index in self.blocks and self.keep < 1 else ()

    def after_attention(self, index: int, tokens: Tokens) -> Tokens:
        """The attentive tokens, some of them merged, and the clusters of the others."""
        kept = share_of(tokens.patches, self.keep)
        if index not in self.blocks or kept == tokens.patches:
            return tokens
        clusters = min(share_of(tokens.patches, self.clusters), tokens.patches - kept, kept // 2 + 1)
        attentive, others = by_attention(tokens, kept)
        paired = merge_pairs(attentive, attentive.patch(attentive.values), clusters - 1, _weights(attentive))
        found = density_peaks(others.patch(others.values), clusters, self.neighbours)
        places = others.places.gather(1, found.centres)
        return paired.behind(others.merge(found.group, clusters, _weights(others), places))


def _weights(tokens: Tokens) -> Tensor:
    return tokens.patch(tokens.columns["class_attention"]).clamp_min(LEAST_WEIGHT)


class Peaks(NamedTuple):
    """Clusters of T points. group: (N, T) int64, the cluster of each; centres: (N, count) int64, the point at the centre of each."""

    group: Tensor
    centres: Tensor


@torch.no_grad()
def density_peaks(points: Tensor, count: int, neighbours: int) -> Peaks:
    """Clusters of points (N, T, D) by density peaks and nearest neighbours (DPC-KNN): the rest join the nearest of `count` centres.

    A centre is a point whose density, exp(−mean squared distance of the nearest `neighbours`, itself among them), times its distance from
    the nearest denser point is large; the densest has the largest distance of all. Distances are divided by √D. Ties go by index.
    """
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(points.shape[2])
    nearest = distance.sort(dim=2).values[:, :, : min(neighbours, points.shape[1])]
    density = (-nearest.square().mean(dim=2)).exp()
    index = torch.arange(points.shape[1], device=points.device)
    denser = (density[:, None] > density[:, :, None]) | ((density[:, None] == density[:, :, None]) & (index[None] < index[:, None]))
    largest = distance.amax(dim=(1, 2))[:, None]
    apart = torch.where(denser, distance, torch.inf).amin(dim=2).minimum(largest)
    centres = (density * apart).argsort(dim=1, descending=True, stable=True)[:, :count]
    group = distance.gather(2, centres[:, None].expand(-1, points.shape[1], -1)).argmin(dim=2)
    own = torch.arange(count, device=points.device).expand_as(centres)
    return Peaks(group.scatter(1, centres, own), centres)
