"""Multiply-accumulate operations of a plain vision transformer from the numbers of its tokens, as papers on token reduction count them.

Counted are the patch embedding, and of every block qkv, the two products of attention, proj and the MLP, and the head. DeiT-T, S and B at
224 pixels come to 1.254, 4.599 and 17.564 · 10⁹. Normalisation, activations, sums and the choice of tokens are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

_GIGA = 1e9


@dataclass(frozen=True)
class Costs:
    """What each image of a batch has cost so far. macs: operations; counts: the tokens that the MLP of each block computed."""

    macs: int
    counts: tuple[int, ...] = ()

    def plus(self, macs: int) -> Costs:
        """With further operations."""
        return replace(self, macs=self.macs + macs)

    def after_mlp(self, macs: int, count: int) -> Costs:
        """With those of an MLP on `count` tokens."""
        return Costs(self.macs + macs, (*self.counts, count))


def counted(costs: Sequence[Costs], rows: Sequence[int], whole: int) -> dict[str, Tensor]:
    """tokens (N, L), gmacs (N,) and token_utilisation (N,), float: those of parts of a batch, of so many rows each.

    whole: the tokens of an image before any is taken away, of which the utilisation is the mean share over blocks.
    """
    repeats = torch.tensor(rows)
    tokens = torch.tensor([cost.counts for cost in costs], dtype=torch.float32)
    gmacs = torch.tensor([cost.macs / _GIGA for cost in costs], dtype=torch.float32)
    total = sum(rows)
    return {
        "tokens": tokens.repeat_interleave(repeats, dim=0, output_size=total), "gmacs": gmacs.repeat_interleave(repeats, output_size=total),
        "token_utilisation": (tokens.mean(dim=1) / whole).repeat_interleave(repeats, output_size=total),
    }  # fmt: skip


def fixed_macs(vit: Any, patches: int) -> int:
    """The operations of an image of so many patches in their embedding and in the head."""
    heads = sum(layer_macs(getattr(vit, name)) for name in ("head", "head_dist") if hasattr(vit, name))
    return int(vit.patch_embed.proj.weight.numel()) * patches + heads


def attention_macs(attention: Any, count: int, values: int | None = None) -> int:
    """The operations of a block's attention on `count` tokens.

    values: of how many tokens the values are mixed and projected, where the map was reduced in between; default all.
    """
    mixed = count if values is None else values
    width, qkv = attention.attn_dim, layer_macs(attention.qkv)
    gate = 0 if getattr(attention, "gate", None) is None else layer_macs(attention.gate)
    projections = count * (qkv - qkv // 3) + mixed * (qkv // 3 + gate)
    return int(projections + width * (count * count + mixed * mixed) + mixed * layer_macs(attention.proj))


def layer_macs(layer: nn.Module) -> int:
    """The operations of one token in a layer: those of its linear layers, or of what took their place with in_features and out_features."""
    inner = sum(layer_macs(child) for child in layer.children())
    inward, outward = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
    return inward * outward if not inner and isinstance(inward, int) and isinstance(outward, int) else inner
