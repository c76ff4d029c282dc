"""Attention of other forms than the softmax of dot products, in the place of timm's."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused, ModelError, with_article
from robustvit.primitives.surgery.modules import named_layers, replace_layer
from robustvit.primitives.surgery.plain_attention import output, projections_of

AttentionForm: TypeAlias = Literal["softmax", "relu", "l2"]


class FormedAttention(nn.Module):
    """timm's attention module, with its very projections and norms under the same names, that weighs values otherwise."""

    attn_drop: nn.Dropout

    def __init__(self, attention: Any) -> None:
        super().__init__()
        for name, module in attention.named_children():
            setattr(self, name, module)
        self.gate = attention.gate
        self.num_heads, self.head_dim, self.attn_dim = attention.num_heads, attention.head_dim, attention.attn_dim
        self.scale = attention.scale

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(N, T, D) → (N, T, D). Raises ModelError for a mask."""
        if attn_mask is not None or is_causal:
            raise ModelError(f"{type(self).__name__} attends to all tokens, and takes no mask.")
        projected = projections_of(self, tokens)
        return output(self, self.mix(projected.query, projected.key, projected.value), projected.gate)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, heads, T, d): values weighed by attention."""
        raise NotImplementedError


class ReLUAttention(FormedAttention):
    """relu(QKᵀ/√d) / Lᵃ, with L the number of keys; rows do not sum to 1. exponent: a."""

    def __init__(self, attention: Any, exponent: float = 1.0) -> None:
        super().__init__(attention)
        self.exponent = exponent

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, heads, T, d): values weighed by attention."""
        scores = (query * self.scale) @ key.transpose(-2, -1)
        weights: Tensor = self.attn_drop(scores.relu() / key.shape[-2] ** self.exponent)
        return weights @ value.contiguous()


class L2Attention(FormedAttention):
    """softmax over keys of −|k_i − k_j|²/√d, where queries are the keys; the projection of queries is left unused."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, heads, T, d): values weighed by attention.

        |k_i|² is the same for a whole row, so that scores are (2 k_i·k_j − |k_j|²)/√d: a dot product with one channel more.
        """
        queries = torch.cat((2 * key, torch.ones_like(key[..., :1])), dim=-1)
        keys = torch.cat((key, -key.square().sum(dim=-1, keepdim=True)), dim=-1)
        dropped = self.attn_drop.p if self.training else 0.0
        return functional.scaled_dot_product_attention(queries, keys, value, scale=self.scale, dropout_p=dropped)


def form_attention(module: nn.Module, form: AttentionForm, exponent: float = 1.0) -> nn.Module:
    """Gives every attention of timm's plain vision transformer another form, in place; returns the module.

    softmax: leaves all as it is. exponent: of the number of keys, for relu. Raises HostRefused for attention of another type than timm's.
    """
    for name, part in list(named_layers(module, nn.Module)) if form != "softmax" else ():
        if hasattr(part, "qkv") and type(part) is not _FORMS[form]:
            if type(part).__name__ != "Attention":
                raise HostRefused(f"its attention is {with_article(type(part).__name__)}, and only timm's own takes another form.")
            replace_layer(module, name, ReLUAttention(part, exponent) if form == "relu" else L2Attention(part))
    return module


_FORMS: dict[str, type[FormedAttention]] = {"relu": ReLUAttention, "l2": L2Attention}
