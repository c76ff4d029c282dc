"""A transformer block in which some tokens attend to others, and its first weights: those of a block of the host."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.surgery.linear import linear_of
from robustvit.primitives.surgery.token_costs import layer_macs

_LAYERS = ("query", "key_value", "proj", "fc1", "fc2")


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and MLP, each scaled channel by channel (LayerScale) before it is added.

    like: a plain block of timm, from which come the kinds of its norms and activation and the width of a head. tensors: its state dict; the
    sizes of its layers are those of the tensors.
    """

    norm1: nn.Module
    norm2: nn.Module
    q_norm: nn.Module
    k_norm: nn.Module
    act: nn.Module
    query: nn.Linear
    key_value: nn.Linear
    proj: nn.Linear
    fc1: nn.Linear
    fc2: nn.Linear

    def __init__(self, like: Any, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.head_dim = like.attn.head_dim
        norms = {"norm1": like.norm1, "norm2": like.norm2, "q_norm": like.attn.q_norm, "k_norm": like.attn.k_norm, "act": like.mlp.act}
        for name, module in norms.items():
            setattr(self, name, copy.deepcopy(module))
        for name in _LAYERS:
            setattr(self, name, linear_of(tensors[f"{name}.weight"], tensors.get(f"{name}.bias")))
        self.scale1, self.scale2 = (nn.Parameter(tensors[name].clone()) for name in ("scale1", "scale2"))
        self.load_state_dict(dict(tensors))

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """tokens (N, S, D), which attend to context (N, T, D) → (N, S, D)."""
        tokens = tokens + self.scale1 * self._attended(self.norm1(tokens), self.norm1(context))
        made: Tensor = tokens + self.scale2 * self.fc2(self.act(self.fc1(self.norm2(tokens))))
        return made

    def macs(self, tokens: int, context: int) -> int:
        """The operations of an image in its layers and in the two products of attention."""
        own = sum(layer_macs(getattr(self, name)) for name in _LAYERS if name != "key_value")
        products = 2 * context * int(self.query.out_features)
        return tokens * (own + products) + context * layer_macs(self.key_value)

    def _attended(self, tokens: Tensor, context: Tensor) -> Tensor:
        query = self.q_norm(self._by_head(self.query(tokens)))
        key, value = (self._by_head(part) for part in self.key_value(context).chunk(2, dim=2))
        mixed = functional.scaled_dot_product_attention(query.contiguous(), self.k_norm(key).contiguous(), value.contiguous())
        made: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return made

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(N, T, heads · d) → (N, heads, T, d)."""
        return tokens.reshape(*tokens.shape[:2], -1, self.head_dim).transpose(1, 2)


def tensors_of(block: Any, scale: float) -> dict[str, Tensor]:
    """The state dict of a CrossBlock with the weights of a plain block, whose queries, keys and values are one layer. scale: LayerScale.

    Of a layer that quantises, masks or factors its weight, the weight that it computes with. Raises HostRefused for an MLP other than two
    layers one after the other.
    """
    attention, mlp = block.attn, block.mlp
    if mlp.fc1.out_features != mlp.fc2.in_features:
        raise HostRefused(f"its MLP is {with_article(type(mlp).__name__)}, and no two layers one after the other.")
    width, found = attention.attn_dim, dict[str, Tensor]()
    for name, layer in {"qkv": attention.qkv, "proj": attention.proj, "fc1": mlp.fc1, "fc2": mlp.fc2}.items():
        found |= {f"{name}.{kind}": one for kind in ("weight", "bias") if (one := getattr(layer, kind, None)) is not None}
    for kind in ("weight", "bias"):
        if (joined := found.pop(f"qkv.{kind}", None)) is not None:
            found[f"query.{kind}"], found[f"key_value.{kind}"] = joined[:width], joined[width:]
    for name, norm in {"norm1": block.norm1, "norm2": block.norm2, "q_norm": attention.q_norm, "k_norm": attention.k_norm}.items():
        found |= {f"{name}.{kind}": one for kind, one in norm.state_dict().items()}
    scales = found["proj.weight"].new_full((found["proj.weight"].shape[0],), scale)
    found |= {"scale1": scales, "scale2": scales}
    with torch.no_grad():
        return {name: one.detach().clone().contiguous() for name, one in found.items()}
