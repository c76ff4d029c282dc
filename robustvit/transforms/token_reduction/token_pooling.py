"""Token pooling: the patch tokens after every block become the centres of clusters that approximate them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.surgery.token_merging import LEAST_WEIGHT, share_of
from robustvit.primitives.surgery.token_reduction import TokenPolicy, depth_of, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens, gathered, group_sums
from robustvit.spec.registry import transform
from robustvit.transforms.token_reduction.evit import Share

_CITATION = """@inproceedings{marin2023tokenpooling,
  title={Token Pooling in Vision Transformers for Image Classification},
  author={Marin, Dmitrii and Chang, Jen-Hao Rick and Ranjan, Anurag and Prabhu, Anish and Rastegari, Mohammad and Tuzel, Oncel},
  booktitle={IEEE/CVF Winter Conference on Applications of Computer Vision},
  year={2023}
}"""


@transform(
    family="token-reduction", source="Marin et al. 2023", url="https://arxiv.org/abs/2110.03860", citation=_CITATION,
    licence="no code of the authors is public",
    rules="Written from the paper, and not fine-tuned: say so beside the authors' figures. Weights by received attention, the linear "
    "schedule and five iterations are ours where the paper leaves them open; nothing is drawn, ties go by index, and an empty cluster "
    "takes the worst approximated token that is nearest to no centre. Gradients are exact for the chosen clusters and blind to the choice.",
    hosts="plain", no_op="keep=1",
)  # fmt: skip
def token_pooling(
    model: Classifier, *, keep: Share = 0.5, centres: Literal["medoids", "means"] = "medoids", iterations: Count = 5
) -> Classifier:  # fmt: skip
    """Token pooling (Marin et al. 2023): after each block but the last, clusters of patch tokens by weighted K-medoids or K-means.

    keep: the share of the patch tokens that the last block computes, rounded up; their number falls linearly from block to block. 1 changes
    nothing. centres: a token of the cluster, or the weighted mean. They minimise Σ w‖x − nearest centre‖² over tokens x, where w is the
    attention that x receives in the block, the mean over heads and queries; the first centres are the tokens that receive most.
    """
    return reduce_tokens(model, Clustering(keep, depth_of(model), centres, iterations))


class Clustering(TokenPolicy):
    """Replaces patch tokens by the centres of their clusters."""

    def __init__(self, keep: float, depth: int, centres: str, iterations: int) -> None:
        super().__init__()
        self.keep, self.depth, self.centres, self.iterations = keep, depth, centres, iterations
        self._patches = 0

    def reads(self, index: int) -> Collection[str]:
        """The attention that tokens receive, in every block but the last."""
        return ("received_attention",) if self.keep < 1 and index < self.depth - 1 else ()

    def at_input(self, tokens: Tokens, images: Tensor) -> Tokens:
        """As they are: their number is what the schedule starts from."""
        self._patches = tokens.patches
        return tokens

    def after_block(self, index: int, tokens: Tokens) -> Tokens:
        """The centres, by falling weight of those that they began with."""
        if self.keep == 1 or index >= self.depth - 1:
            return tokens
        count = share_of(self._patches, 1.0 - (1.0 - self.keep) * (index + 1) / (self.depth - 1))
        if count >= tokens.patches:
            return tokens
        points, weights = tokens.patch(tokens.values), tokens.patch(tokens.columns["received_attention"]).clamp_min(LEAST_WEIGHT)
        if self.centres == "means":
            return tokens.merge(k_means(points, weights, count, self.iterations), count, weights)
        found = k_medoids(points, weights, count, self.iterations)
        chosen = tokens.take(found.centres)
        return tokens.merge(found.group, count, weights, chosen.places).having(values=chosen.values)


class Medoids(NamedTuple):
    """Clusters of T points. group: (N, T) int64, the cluster of each; centres: (N, count) int64, the point at the centre of each."""

    group: Tensor
    centres: Tensor


@torch.no_grad()
def k_means(points: Tensor, weights: Tensor, count: int, iterations: int) -> Tensor:
    """(N, T) int64, the cluster in 0 … count − 1 of each of points (N, T, D), by weighted K-means; no cluster is empty.

    weights: (N, T) > 0; the first centres are the heaviest points. count: at most T.
    """
    centres = gathered(points, heaviest(weights, count))
    group = assigned(squared_distances(points, centres), weights)
    for _ in range(iterations - 1):
        centres = group_sums(points * weights[:, :, None], group, count) / group_sums(weights, group, count)[:, :, None]
        group = assigned(squared_distances(points, centres), weights)
    return group


@torch.no_grad()
def k_medoids(points: Tensor, weights: Tensor, count: int, iterations: int) -> Medoids:
    """Clusters of points (N, T, D) by weighted K-medoids; no cluster is empty. As `k_means`, but a centre is a point of its cluster."""
    squared = squared_distances(points, points)
    squared.diagonal(dim1=1, dim2=2).zero_()
    centres = heaviest(weights, count)
    for _ in range(iterations):
        group = assigned(squared.gather(2, centres[:, None].expand(-1, points.shape[1], -1)), weights)
        cost = (squared * weights[:, :, None]).masked_fill(group[:, :, None] != group[:, None], 0.0).sum(dim=1)
        centres = cost[:, None].masked_fill(~_members(group, count), torch.inf).argmin(dim=2)
    return Medoids(group, centres)


def heaviest(weights: Tensor, count: int) -> Tensor:
    """(N, count) int64: the heaviest points, the first of equal ones."""
    return weights.argsort(dim=1, descending=True, stable=True)[:, :count]


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """(N, T, K) of points (N, T, D) from centres (N, K, D)."""
    products = points @ centres.transpose(1, 2)
    return (points.square().sum(dim=2)[:, :, None] + centres.square().sum(dim=2)[:, None] - 2.0 * products).clamp_min(0.0)


def assigned(squared: Tensor, weights: Tensor) -> Tensor:
    """(N, T) int64: the nearest centre of each point, but that each cluster without a point takes the worst approximated one.

    That is one of the largest w · d² among those that are not the nearest point of their own cluster. squared: (N, T, K).
    """
    nearest, count = squared.min(dim=2), squared.shape[2]
    member = _members(nearest.indices, count)
    first = nearest.values[:, None].masked_fill(~member, torch.inf).argmin(dim=2)  # of each cluster: its nearest point
    empty = ~member.any(dim=2)
    stays = torch.zeros_like(nearest.indices).scatter_add(1, first, (~empty).to(torch.int64)) > 0
    worst = (weights * nearest.values).masked_fill(stays, -1.0).argsort(dim=1, descending=True, stable=True)
    moved = worst.gather(1, (empty.cumsum(dim=1) - 1).clamp_min(0))  # to each empty cluster the next of the worst
    spare = torch.cat((nearest.indices, nearest.indices[:, :1]), dim=1)  # a place behind the last for what is not moved
    home = torch.arange(count, device=squared.device).expand_as(moved)
    return spare.scatter(1, moved.where(empty, squared.shape[1]), home)[:, :-1]


def _members(group: Tensor, count: int) -> Tensor:
    """(N, count, T) bool: which points belong to each cluster."""
    return group[:, None] == torch.arange(count, device=group.device)[:, None]
