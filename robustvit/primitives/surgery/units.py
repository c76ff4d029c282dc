"""Heads and neurons of plain blocks: made zero, or taken out so that the layers around them shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.errors import HostRefused, with_article
from robustvit.primitives.surgery.factored import FactoredLinear
from robustvit.primitives.surgery.linear import linear_of, resize, stored_size
from robustvit.primitives.surgery.masks import MaskedWeight, mask_weight, masked_class, weight_parameter
from robustvit.primitives.surgery.modules import replace_layer


def heads_of(blocks: Sequence[Any]) -> list[list[Any]]:
    """The attention modules of plain blocks; those that share their projection stand together, having the same heads."""
    found: dict[int, list[Any]] = {}
    for block in blocks:
        found.setdefault(id(block.attn.qkv), []).append(block.attn)
    return list(found.values())


def neurons_of(blocks: Sequence[Any]) -> list[list[Any]]:
    """The MLPs of plain blocks; those that share their first layer stand together."""
    found: dict[int, list[Any]] = {}
    for block in blocks:
        found.setdefault(id(block.mlp.fc1), []).append(block.mlp)
    return list(found.values())


def keep_heads(module: nn.Module, attentions: Sequence[Any], keep: Tensor, *, remove: bool) -> None:
    """Keeps some heads of attention modules that share their projection: (heads,) bool, at least one of them.

    module: that holds them. remove: whether qkv and proj shrink; else the heads' weights are masked, which gives the same logits.
    """
    first = attentions[0]
    width = first.head_dim
    channels = keep.repeat_interleave(width).nonzero().flatten()
    rows = torch.cat([channels + part * first.num_heads * width for part in range(3)])
    if any(not isinstance(attention.norm, nn.Identity) for attention in attentions):
        raise HostRefused("its attention normalises over all heads, so that none can be taken out.")
    _keep(module, [attention.qkv for attention in attentions], rows, dim=0, remove=remove)
    _keep(module, [attention.proj for attention in attentions], channels, dim=1, remove=remove)
    _keep(module, [attention.gate for attention in attentions if attention.gate is not None], channels, dim=0, remove=remove)
    for attention in attentions if remove else ():
        attention.num_heads, attention.attn_dim = int(keep.sum()), len(channels)
        attention.register_load_state_dict_pre_hook(partial(follow_stored_heads, len(keep)))


def keep_neurons(module: nn.Module, mlps: Sequence[Any], keep: Tensor, *, remove: bool) -> None:
    """Keeps some hidden neurons of MLPs that share their first layer: (neurons,) bool, at least one of them. See `keep_heads`."""
    kept = keep.nonzero().flatten()
    if any(not isinstance(mlp.norm, nn.Identity) for mlp in mlps):
        raise HostRefused("its MLP normalises over all neurons, so that none can be taken out.")
    _keep(module, [mlp.fc1 for mlp in mlps], kept, dim=0, remove=remove)
    _keep(module, [mlp.fc2 for mlp in mlps], kept, dim=1, remove=remove)
    for mlp in mlps if remove else ():
        mlp.register_load_state_dict_pre_hook(partial(follow_stored_neurons, len(keep)))


def follow_stored_heads(most: int, attention: Any, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Gives an attention module as many heads as a state dict holds that is about to be loaded, at most so many.

    Which ones stay may depend on the weights, and their number for each block with it.
    """
    heads, rest = divmod(_stored_outputs(state_dict, f"{prefix}qkv."), 3 * attention.head_dim)
    if not rest and 0 < heads <= most:
        attention.num_heads, attention.attn_dim = heads, heads * attention.head_dim
        _resize(attention.qkv, 3 * attention.attn_dim, attention.qkv.in_features)
        _resize(attention.proj, attention.proj.out_features, attention.attn_dim)
        if attention.gate is not None:
            _resize(attention.gate, attention.attn_dim, attention.gate.in_features)


def follow_stored_neurons(most: int, mlp: Any, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Gives an MLP as many neurons as a state dict holds that is about to be loaded, at most so many."""
    neurons = _stored_outputs(state_dict, f"{prefix}fc1.")
    if 0 < neurons <= most:
        _resize(mlp.fc1, neurons, mlp.fc1.in_features)
        _resize(mlp.fc2, mlp.fc2.out_features, neurons)


def _stored_outputs(state_dict: Mapping[str, Any], place: str) -> int:
    """How many outputs the layer at a place has in a state dict, factored or not; 0 where there is none."""
    sizes = (stored_size(state_dict, f"{place}{factor}") for factor in ("", "whole.", "up."))
    return next((size[0] for size in sizes if size is not None), 0)


def _resize(layer: Any, out: int, into: int) -> None:
    if isinstance(layer, FactoredLinear):
        layer.resize(out, into)
    else:
        resize(layer, out, into)


def _keep(module: nn.Module, layers: Sequence[nn.Module], kept: Tensor, *, dim: int, remove: bool) -> None:
    """Keeps outputs (dim 0) or inputs (dim 1) of linear layers, each once; a factored one has them in one of its factors."""
    for found in {id(layer): layer for layer in layers}.values():
        layer = found
        if isinstance(found, FactoredLinear):
            layer = found.whole if "whole" in found._modules else (found.up, found.down)[dim]
        weight = weight_parameter(layer)
        if remove:
            replace_layer(module, next(name for name, part in module.named_modules() if part is layer), selected(layer, kept, dim))
        else:
            flags = torch.zeros(weight.shape[dim], dtype=torch.bool, device=weight.device).index_fill_(0, kept, True)
            mask_weight(layer, (flags[:, None] if dim == 0 else flags[None]).expand(weight.shape).clone())


def selected(layer: nn.Module, kept: Tensor, dim: int) -> nn.Module:
    """A linear layer of some outputs (dim 0) or inputs (dim 1) of another, with its mask. Raises HostRefused for layers of other kinds."""
    if type(layer) not in (nn.Linear, masked_class(nn.Linear)):
        raise HostRefused(f"{with_article(type(layer).__name__)} cannot lose single outputs or inputs; prune before that transform.")
    bias: Any = layer.bias
    made = linear_of(weight_parameter(layer).index_select(dim, kept), bias if dim or bias is None else bias[kept])
    if isinstance(layer, MaskedWeight):
        mask_weight(made, layer.weight_mask.index_select(dim, kept))
    return made
