"""The tokens of some images on their way through a vision transformer, and how they are selected and merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robustvit.primitives.surgery.token_costs import Costs

NO_PATCH = -1
"""The place of a token that is at no patch's, such as a mean of several."""
COLUMNS = ("keys", "class_attention", "received_attention", "value_norms")
"""What a policy may read of a block's attention, for every token, prefix included. keys: (N, T, d), the mean over heads. class_attention:
(N, T), what the class token attends to, the mean over heads; where logits are not read from it, what the mean of the patch tokens' queries
attends to. received_attention: (N, T), the mean over heads and queries. value_norms: (N, T), of values joined over heads."""
_SUMMED = ("class_attention", "received_attention")  # of merged tokens; other columns are averaged


@dataclass(frozen=True)
class Tokens:
    """The tokens of N images, equally many of each. Patch tokens are counted from 0 behind the prefix, which nothing reduces.

    values: (N, T, D). sizes: (N, T), how many patches each stands for. places: (N, T − prefix) int64, the patch at whose place a token is:
    its own, or that of the token into which others were merged; NO_PATCH for one that stands for many alike. merged: whether tokens were
    averaged. columns: those of COLUMNS that a policy reads of the present block. aside: tokens that skip blocks, by the id of the policy
    that set them aside. costs: of each image so far.
    """

    values: Tensor
    sizes: Tensor
    places: Tensor
    prefix: int
    costs: Costs
    merged: bool = False
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    aside: Mapping[int, Tokens] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Tensor, prefix: int, costs: Costs) -> Tokens:
        """Those of an embedding (N, T, D), each the own one of its patch."""
        rows, count, _ = values.shape
        places = torch.arange(count - prefix, device=values.device).expand(rows, -1)
        return cls(values, values.new_ones(rows, count), places, prefix, costs)

    @property
    def count(self) -> int:
        """How many tokens an image has, prefix included."""
        return self.values.shape[1]

    @property
    def patches(self) -> int:
        """How many tokens an image has behind the prefix."""
        return self.count - self.prefix

    def patch(self, of: Tensor) -> Tensor:
        """The part behind the prefix of something of all tokens (N, T, …)."""
        return of[:, self.prefix :]

    def having(self, **changes: object) -> Tokens:
        """With other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def log_sizes(self) -> Tensor:
        """(N, 1, 1, T): what is added to attention scores so that a token of n patches receives attention as n tokens would."""
        return self.sizes.log()[:, None, None, :]

    def each(self) -> list[Tokens]:
        """Those of each image alone."""
        return [self.rows(slice(row, row + 1)) for row in range(len(self.values))]

    def rows(self, some: slice) -> Tokens:
        """Those of some images."""
        columns = {name: column[some] for name, column in self.columns.items()}
        aside = {policy: one.rows(some) for policy, one in self.aside.items()}
        return self.having(values=self.values[some], sizes=self.sizes[some], places=self.places[some], columns=columns, aside=aside)

    def take(self, index: Tensor) -> Tokens:
        """The patch tokens of these indices behind the prefix, in their order. index: (N, k) int64."""
        return self.having(
            values=self._taken(self.values, index), sizes=self._taken(self.sizes, index), places=self.places.gather(1, index),
            columns={name: self._taken(column, index) for name, column in self.columns.items()},
        )  # fmt: skip

    def merge(self, group: Tensor, count: int, weights: Tensor | None = None, places: Tensor | None = None) -> Tokens:
        """Patch tokens averaged by group, behind the prefix: sizes and attention add up, values and other columns are weighted means.

        group: (N, T − prefix) int64 in 0 … count − 1, no group empty. weights: (N, T − prefix) > 0, default the sizes. places: (N, count)
        of the groups; default NO_PATCH where it has several members.
        """
        sizes = self.patch(self.sizes)
        weights = sizes if weights is None else weights
        total = group_sums(weights, group, count)

        def mean(of: Tensor) -> Tensor:
            wide = weights.view(*weights.shape, *(1,) * (of.dim() - 2))
            summed = group_sums(self.patch(of) * wide, group, count)
            return torch.cat((of[:, : self.prefix], summed / total.view(*total.shape, *(1,) * (of.dim() - 2))), dim=1)

        def summed(of: Tensor) -> Tensor:
            return torch.cat((of[:, : self.prefix], group_sums(self.patch(of), group, count)), dim=1)

        columns = {name: (summed if name in _SUMMED else mean)(column) for name, column in self.columns.items()}
        places = self._places_of(group, count) if places is None else places
        return self.having(values=mean(self.values), sizes=summed(self.sizes), columns=columns, places=places, merged=True)

    def behind(self, other: Tokens) -> Tokens:
        """With the patch tokens of another behind these, whose prefix is left out."""
        columns = {name: torch.cat((column, other.patch(other.columns[name])), dim=1) for name, column in self.columns.items()}
        return self.having(
            values=torch.cat((self.values, other.patch(other.values)), dim=1),
            sizes=torch.cat((self.sizes, other.patch(other.sizes)), dim=1),
            places=torch.cat((self.places, other.places), dim=1),
            columns=columns,
            merged=self.merged or other.merged,
        )

    def left(self, patches: int) -> Tensor:
        """(N, patches) bool: at which patches' places there are tokens."""
        return (self.places[:, :, None] == torch.arange(patches, device=self.places.device)).any(dim=1)

    def _taken(self, of: Tensor, index: Tensor) -> Tensor:
        return torch.cat((of[:, : self.prefix], gathered(self.patch(of), index)), dim=1)

    def _places_of(self, group: Tensor, count: int) -> Tensor:
        members = group_sums(torch.ones_like(group), group, count)
        return torch.where(members == 1, group_sums(self.places, group, count), NO_PATCH)


def gathered(of: Tensor, index: Tensor) -> Tensor:
    """(N, k, …): the entries of (N, T, …) at indices (N, k)."""
    return of.gather(1, index.view(*index.shape, *(1,) * (of.dim() - 2)).expand(-1, -1, *of.shape[2:]))


def group_sums(of: Tensor, group: Tensor, count: int) -> Tensor:
    """(N, count, …): sums of (N, T, …) by group (N, T)."""
    index = group.view(*group.shape, *(1,) * (of.dim() - 2)).expand_as(of)
    return of.new_zeros(of.shape[0], count, *of.shape[2:]).scatter_add(1, index, of)
