"""The attention of timm's plain blocks step by step, so that tokens can be weighed, maps be read and every product be quantised.

Products go through torch's scaled_dot_product_attention, also where the map itself is needed (as the attention of values that are the rows
of the identity matrix): what changes attention by intercepting that function, such as a temperature, holds here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.surgery.key_selection import restricted, selected_keys

QUANTISED = ("query", "key", "map", "value")
"""The operands of the two matrix products of attention: queries and keys, the map after the softmax and values."""


class Projections(NamedTuple):
    """Of tokens (N, T, D): query, key and value (N, heads, T, d), normalised where the block does so, and its output's gate or None."""

    query: Tensor
    key: Tensor
    value: Tensor
    gate: Tensor | None


class PlainAttention(nn.Module):
    """timm's attention module with a quantiser before each operand of its two products; the identity where there is none.

    It has the very projections and norms of the module that it takes the place of, under the same names. keep: the share of keys, those of
    its largest scores, to which a query attends; prefix: how many of the first queries attend to all. selectors: modules that choose keys
    before that, see `select_keys`.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        for name, module in attention.named_children():
            setattr(self, name, module)
        self.gate = attention.gate
        self.num_heads, self.head_dim, self.attn_dim = attention.num_heads, attention.head_dim, attention.attn_dim
        self.scale, self.fused_attn = attention.scale, True
        self.quantisers = nn.ModuleDict({name: nn.Identity() for name in QUANTISED})
        self.selectors = nn.ModuleList()
        self.keep, self.prefix = 1.0, 0

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        projected = projections_of(self, tokens)
        return output(self, mixed_values(self, projected, attn_mask), projected.gate)

    def skipped_macs(self) -> int:
        """The operations on an image that torch counts here and that are of masked entries of the map, or of zeros within selectors."""
        masked = max((one.masked_entries() for one in self.selectors), default=0)  # type: ignore[operator]
        return int(self.num_heads * (2 * self.head_dim * masked + sum(one.zero_products() for one in self.selectors)))  # type: ignore[operator]


def quantise_operand(attention: Any, name: str, quantiser: nn.Module) -> PlainAttention:
    """A block's attention with a quantiser before one operand of its products, after those that it has already.

    attention: timm's, or a PlainAttention of a module that is nobody else's, which is changed. name: of QUANTISED.
    """
    made = _plain(attention)
    before = made.quantisers[name]
    made.quantisers[name] = quantiser if isinstance(before, nn.Identity) else nn.Sequential(before, quantiser)
    return made


def keep_largest_scores(attention: Any, keep: float, prefix: int) -> PlainAttention:
    """A block's attention in which a query attends to the keys of its largest scores alone, and to no more than before.

    attention: timm's, or a PlainAttention of a module that is nobody else's, which is changed. keep: the share of keys, in (0, 1], rounded
    up. prefix: how many of the first queries attend to all.
    """
    made = _plain(attention)
    made.keep, made.prefix = min(made.keep, keep), prefix
    return made


def select_keys(attention: Any, selector: nn.Module) -> PlainAttention:
    """A block's attention in which a query attends to keys that a module selects, among those that others selected before.

    attention: timm's, or a PlainAttention of a module that is nobody else's, which is changed. selector: of queries and keys (N, heads, T,
    d) and the present bias, (N, heads, T, T) bool, True for at least one of the keys of each query that the bias leaves. Its methods
    `masked_entries` and `zero_products` tell what a kernel for sparse products leaves out of an image, in a head: entries of the map, and
    operations of its own.
    """
    made = _plain(attention)
    made.selectors.append(selector)
    return made


def projections_of(attention: Any, tokens: Tensor) -> Projections:
    """Queries, keys and values of tokens by a plain block's attention module, quantised where it has quantisers. tokens: after its norm."""
    count, length, _ = tokens.shape
    gate = getattr(attention, "gate", None)
    split = attention.qkv(tokens).reshape(count, length, 3, attention.num_heads, attention.head_dim).permute(2, 0, 3, 1, 4)
    query, key, value = split.unbind(0)
    query, key = attention.q_norm(query), attention.k_norm(key)
    made = Projections(query, key, value, None if gate is None else gate(tokens).sigmoid())
    return made._replace(**{name: _quantiser(attention, name)(getattr(made, name)) for name in ("query", "key", "value")})


def attention_map(attention: Any, projected: Projections, bias: Tensor | None = None) -> Tensor:
    """(N, heads, T, T): the map after the softmax, rows are queries; quantised where the module quantises it.

    bias: added to the scores, broadcast to (N, heads, T, T).
    """
    mask = _mask(attention, projected, bias)
    quantised: Tensor = _quantiser(attention, "map")(_softmax_map(projected, mask))
    return quantised


def mixed_values(attention: Any, projected: Projections, bias: Tensor | None = None) -> Tensor:
    """(N, heads, T, d): values mixed by the attention map, which is never made where nothing quantises it."""
    if isinstance(_quantiser(attention, "map"), nn.Identity):
        query, key, value, _ = projected
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=_mask(attention, projected, bias))
    return attention_map(attention, projected, bias) @ projected.value.contiguous()


def output(attention: Any, values: Tensor, gate: Tensor | None) -> Tensor:
    """(N, T, D): the module's output from mixed values (N, heads, T, d)."""
    joined = attention.norm(values.transpose(1, 2).flatten(2))
    projected: Tensor = attention.proj_drop(attention.proj(joined if gate is None else joined * gate))
    return projected


def _softmax_map(projected: Projections, mask: Tensor | None) -> Tensor:
    """(N, heads, T, T): the map before any quantiser; where operations are counted on shapes alone, without the product by the identity."""
    query, key = projected.query, projected.key.contiguous()  # of strided keys a CPU gives few queries other bits elsewhere in a batch
    if key.is_meta:
        return (query @ key.transpose(-2, -1)).softmax(dim=-1)
    tokens = key.shape[-2]
    identity = torch.eye(tokens, dtype=projected.value.dtype, device=projected.value.device).expand(*key.shape[:-1], tokens)
    return functional.scaled_dot_product_attention(query, key, identity, attn_mask=mask)


def _plain(attention: Any) -> PlainAttention:
    return attention if isinstance(attention, PlainAttention) else PlainAttention(attention)


def _mask(attention: Any, projected: Projections, bias: Tensor | None) -> Tensor | None:
    """The bias, and the choice of keys where there is one; a query that is not of one of the tokens attends to all."""
    query, key, tokens = projected.query, projected.key, projected.key.shape[-2]
    if not isinstance(attention, PlainAttention) or query.shape[-2] != tokens:
        return bias
    for selector in attention.selectors:
        bias = restricted(bias, selector(query, key, bias))
    return bias if attention.keep == 1 else restricted(bias, selected_keys(query, key, attention.keep, attention.prefix, bias))


def _quantiser(attention: Any, name: str) -> Callable[[Tensor], Tensor]:
    return attention.quantisers[name] if isinstance(attention, PlainAttention) else nn.Identity()  # type: ignore[return-value]
