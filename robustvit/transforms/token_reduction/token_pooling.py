"""Token pooling: the patch tokens after every block become the centres of clusters that approximate them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

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
    source="Marin et al. 2023", url="https://arxiv.org/abs/2110.03860", citation=_CITATION,
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
        weights = tokens.patch(tokens.columns["received_attention"]).clamp_min(LEAST_WEIGHT)
        if self.centres == "means":
            group = clusters(tokens.patch(tokens.values), weights, count, self.iterations, _means)
            return tokens.merge(group, count, weights)
        group = clusters(tokens.patch(tokens.values), weights, count, self.iterations, _medoid_values)
        medoids = _medoids(tokens.patch(tokens.values), weights, group, count)
        chosen = tokens.take(medoids)
        return tokens.merge(group, count, weights, chosen.places).having(values=chosen.values)


@torch.no_grad()
def clusters(
    points: Tensor, weights: Tensor, count: int, iterations: int, update: Callable[[Tensor, Tensor, Tensor, int], Tensor]
) -> Tensor:  # fmt: skip
    """(N, T) int64, the cluster in 0 … count − 1 of each of points (N, T, D), after some iterations; no cluster is empty.

    weights: (N, T) > 0. update: (points, weights, clusters, count) → centres (N, count, D). count: at most T.
    """
    centres = gathered(points, weights.argsort(dim=1, descending=True, stable=True)[:, :count])
    group = _assigned(points, weights, centres)
    for _ in range(iterations - 1):
        group = _assigned(points, weights, update(points, weights, group, count))
    return group


def _assigned(points: Tensor, weights: Tensor, centres: Tensor) -> Tensor:
    """(N, T): the nearest of centres (N, K, D) for each point, and for each cluster without one the worst approximated point.

    That is one of the largest w‖x − c‖² among those that are not the nearest point of their own cluster.
    """
    nearest = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").min(dim=2)
    count = centres.shape[1]
    member = nearest.indices[:, None] == torch.arange(count, device=points.device)[:, None]
    first = nearest.values[:, None].masked_fill(~member, torch.inf).argmin(dim=2)  # of each cluster: its nearest point
    empty = ~member.any(dim=2)
    stays = torch.zeros_like(nearest.indices).scatter_add(1, first, (~empty).to(torch.int64)) > 0
    worst = (weights * nearest.values.square()).masked_fill(stays, -1.0).argsort(dim=1, descending=True, stable=True)
    turn = (empty.cumsum(dim=1) - 1).clamp_min(0)  # of each empty cluster among these
    moved = worst.gather(1, turn.clamp_max(points.shape[1] - 1))
    home = torch.where(empty, torch.arange(count, device=points.device), nearest.indices.gather(1, moved))
    return _scattered(nearest.indices, moved, home, empty)


def _scattered(group: Tensor, moved: Tensor, home: Tensor, chosen: Tensor) -> Tensor:
    """`group` (N, T) with `home` at the indices `moved` (N, K) where these are chosen."""
    spare = torch.cat((group, group[:, :1]), dim=1)  # a place behind the last for what is not chosen
    return spare.scatter(1, moved.where(chosen, group.shape[1]), home)[:, :-1]


def _means(points: Tensor, weights: Tensor, group: Tensor, count: int) -> Tensor:
    """(N, count, D): the weighted mean of each cluster."""
    return group_sums(points * weights[:, :, None], group, count) / group_sums(weights, group, count)[:, :, None]


def _medoids(points: Tensor, weights: Tensor, group: Tensor, count: int) -> Tensor:
    """(N, count) int64: of each cluster the point that approximates it best, the first of equal ones."""
    squared = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    together = group[:, :, None] == group[:, None]
    cost = (squared * weights[:, :, None]).masked_fill(~together, 0.0).sum(dim=1)
    member = group[:, None] == torch.arange(count, device=points.device)[:, None]
    return cost[:, None].masked_fill(~member, torch.inf).argmin(dim=2)


def _medoid_values(points: Tensor, weights: Tensor, group: Tensor, count: int) -> Tensor:
    """(N, count, D): the medoid of each cluster."""
    return gathered(points, _medoids(points, weights, group, count))
