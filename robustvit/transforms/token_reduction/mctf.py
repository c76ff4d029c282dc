"""Multi-criteria token fusion: tokens that are similar, little attended and small are merged inside attention."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.surgery.token_merging import LEAST_WEIGHT
from robustvit.primitives.surgery.token_reduction import TokenPolicy, chosen_blocks, depth_of, reduce_tokens
from robustvit.primitives.surgery.tokens import Tokens, group_sums
from robustvit.spec.registry import transform

_FEWEST = 10  # tokens, prefix included, that the authors leave in every block

_CITATION = """@inproceedings{lee2024mctf,
  title={Multi-criteria Token Fusion with One-step-ahead Attention for Efficient Vision Transformers},
  author={Lee, Sanghyeok and Choi, Joonmyung and Kim, Hyunwoo J.},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2024}
}"""


@transform(
    family="token-reduction", source="Lee et al. 2024", url="https://arxiv.org/abs/2403.10030", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and its settings",
    rules="Nothing is trained here, where the authors fine-tune with token reduction consistency: say so beside their figures. Differs "
    "from their code: every prefix token is protected, and gradients go through the weights of merging, too. They are exact on the chosen "
    "branch and blind to the choice: report restarts and a black-box attack, too.",
    hosts="plain", no_op="r=0",
)  # fmt: skip
def mctf(
    model: Classifier, *, r: Whole = 16, tau_similarity: Annotated[float, Ge(0)] = 1.0, tau_information: Annotated[float, Ge(0)] = 20.0,
    tau_size: Annotated[float, Ge(0)] = 40.0, bidirectional: bool = True, blocks: tuple[int, ...] | None = None,
) -> Classifier:  # fmt: skip
    """Multi-criteria token fusion (MCTF, Lee et al. 2024): merges r patch tokens inside the attention of every block but the first.

    r: tokens fewer with every block, at most half of the patch tokens, and so that 10 tokens are left; 0 changes nothing. The weight of a
    pair is ((cos + 1) / 2)^(1/τ) of their values, times (their inverse received attention)^(1/τ), times (their inverse size)^(1/τ), the
    inverses relative to the largest of the image. tau_similarity, tau_information, tau_size: these τ; 0 leaves a criterion out.
    bidirectional: half of the merges go from even to odd positions, the rest back. The attention map of the block is computed before the
    merge, merged with the tokens (keys add up), and mixes the values of merged tokens. Tokens are averaged by size times received
    attention. blocks: default all but the first. Raises BadParameter for blocks that the model does not have.
    """
    every = tuple(range(1, depth_of(model))) or (0,)
    chosen = chosen_blocks("mctf", every if blocks is None else blocks, model)
    return reduce_tokens(model, Fusion(r, (tau_similarity, tau_information, tau_size), bidirectional, chosen))


class Fusion(TokenPolicy):
    """Merges `r` patch tokens by several criteria inside attention. taus: of similarity, information and size."""

    proportional = True

    def __init__(self, r: int, taus: tuple[float, float, float], bidirectional: bool, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.r, self.taus, self.bidirectional, self.blocks = r, taus, bidirectional, blocks

    def reads(self, index: int) -> Collection[str]:
        """The whole map, at its blocks."""
        return ("map",) if self.r and index in self.blocks else ()

    def inside_attention(self, index: int, tokens: Tokens, found: Tensor) -> tuple[Tokens, Tensor]:
        """The merged tokens, and the map between them."""
        r = min(self.r, tokens.count - _FEWEST, tokens.patches // 2)
        if r <= 0:
            return tokens, found
        received = found.mean(dim=(1, 2))
        with torch.no_grad():
            plan = _plan(tokens, self._weights(tokens, received), r // 2 if self.bidirectional else r, r)
        weights = tokens.patch(received.clamp_min(LEAST_WEIGHT) * tokens.sizes)
        return tokens.merge(plan.group, plan.groups, weights, plan.places), _merged_map(tokens, found, plan, weights)

    def _weights(self, tokens: Tokens, received: Tensor) -> Tensor:
        """(N, patches at even positions, at odd ones): how much each pair should be merged."""
        first, (similarity, information, size) = tokens.prefix % 2, self.taus
        unit = functional.normalize(tokens.patch(tokens.values), dim=-1)
        cosine = unit[:, first::2] @ unit[:, 1 - first :: 2].transpose(1, 2)
        weights = ((cosine + 1.0) / 2.0).clamp_min(0.0) ** (1.0 / similarity) if similarity else torch.ones_like(cosine)
        for tau, of in ((information, received.clamp_min(LEAST_WEIGHT)), (size, tokens.sizes)):
            if tau:
                inverse = tokens.patch(of.amin(dim=1, keepdim=True) / of)
                weights = weights * (inverse[:, first::2, None] * inverse[:, None, 1 - first :: 2]) ** (1.0 / tau)
        return weights


class _Plan(NamedTuple):
    """group: (N, T − prefix) int64 in 0 … groups − 1; places: (N, groups), those of the tokens into which others are merged."""

    group: Tensor
    groups: int
    places: Tensor


def _plan(tokens: Tokens, weights: Tensor, forth: int, r: int) -> _Plan:
    """Which tokens become one: `forth` from even to odd positions, the rest of r back to those even ones that are left.

    Even ones that are left come first, in their order, then odd ones by falling weight.
    """
    first, (evens, odds) = tokens.prefix % 2, weights.shape[1:]
    best = weights.max(dim=2)
    gone = _mask_of(best.values, forth)
    target = best.indices  # of an even one that is merged: an odd one
    back = weights.masked_fill(gone[:, :, None], -torch.inf).max(dim=1)
    order = back.values.argsort(dim=1, descending=True, stable=True)
    home = (~gone).cumsum(dim=1) - 1  # of an even one that is left: its group
    left = evens - forth
    rank = order.argsort(dim=1) - (r - forth)  # of an odd one among those that are left, negative where it is merged
    odd = torch.where(rank < 0, home.gather(1, back.indices), left + rank)
    group = torch.empty_like(tokens.places)
    group[:, first::2] = torch.where(gone, odd.gather(1, target), home)
    group[:, 1 - first :: 2] = odd
    stay = gone.to(torch.int64).argsort(dim=1, stable=True)[:, :left]
    places = tokens.places[:, first::2].gather(1, stay), tokens.places[:, 1 - first :: 2].gather(1, order[:, r - forth :])
    return _Plan(group, left + odds - (r - forth), torch.cat(places, dim=1))


def _mask_of(values: Tensor, count: int) -> Tensor:
    """(N, n) bool: the `count` largest of values (N, n), the first of equal ones."""
    largest = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, largest, True)


def _merged_map(tokens: Tokens, found: Tensor, plan: _Plan, weights: Tensor) -> Tensor:
    """(N, heads, T', T'): the map between merged tokens: attention to them adds up, that of them is a weighted mean."""
    keys = found.permute(0, 3, 1, 2)
    to = torch.cat((keys[:, : tokens.prefix], group_sums(tokens.patch(keys), plan.group, plan.groups)), dim=1)
    queries = to.permute(0, 3, 2, 1)
    mean = group_sums(tokens.patch(queries) * weights[:, :, None, None], plan.group, plan.groups)
    mean = mean / group_sums(weights, plan.group, plan.groups)[:, :, None, None]
    return torch.cat((queries[:, : tokens.prefix], mean), dim=1).transpose(1, 2)
