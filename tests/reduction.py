"""A plain vision transformer computed step by step for one image at a time, so that a test can reduce its tokens by loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from robustvit.evaluation.cost.macs import count
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.token_reduction import ReducedViT


@dataclass
class Step:
    """One block of one image. tokens: (T, D); sizes: (T,); prefix: how many are no patches. Of the block's attention: query, key, value
    (T, heads, d) and map (heads, T, T)."""

    index: int
    tokens: Tensor
    sizes: Tensor
    prefix: int
    query: Tensor
    key: Tensor
    value: Tensor
    map: Tensor


Hook = Callable[[Step], tuple[Tensor, Tensor]]
"""The tokens and sizes of a step → those that are left."""


@dataclass
class Reference:
    """logits: (N, K); counts: for each image the tokens of each block's MLP."""

    logits: Tensor
    counts: list[list[int]]


def as_it_is(step: Step) -> tuple[Tensor, Tensor]:
    return step.tokens, step.sizes


def reference(
    host: Classifier, pixels: Tensor, *, middle: Hook = as_it_is, after: Hook = as_it_is, inside: Hook | None = None,
    start: Callable[[Tensor, Tensor], Tensor] | None = None, proportional: bool = False, by_size: bool = False,
) -> Reference:  # fmt: skip
    """The logits of a host whose tokens are reduced at its input, between attention and MLP, or after a block.

    start: (tokens, normalised image) → indices of the patches that stay. inside: returns the attention's output and is told the map;
    by_size: whether an average of tokens is weighted by their sizes.
    """
    images, vit = (pixels - host.mean) / host.std, host.model
    rows = [_one(vit, image, middle, after, inside, start, proportional, by_size) for image in images]
    return Reference(torch.stack([row[0] for row in rows]), [row[1] for row in rows])


def _one(vit: Any, image: Tensor, middle: Hook, after: Hook, inside: Any, start: Any, proportional: bool, by_size: bool) -> Any:
    tokens, prefix, counts = vit.norm_pre(vit._pos_embed(vit.patch_embed(image[None])))[0], vit.num_prefix_tokens, []
    if start is not None:
        tokens = torch.cat((tokens[:prefix], tokens[prefix:][start(tokens[prefix:], image)]))
    sizes = torch.ones(len(tokens), dtype=tokens.dtype)
    for index, block in enumerate(vit.blocks):
        step = attended(index, block.attn, block.norm1(tokens), sizes, prefix, proportional)
        step.tokens = tokens
        if inside is not None:
            tokens, sizes, mixed = inside(step, block)
        else:
            mixed = torch.einsum("hqk,khd->qhd", step.map, step.value).flatten(1)
        step.tokens, step.sizes = tokens + block.ls1(block.attn.proj(mixed)), sizes
        tokens, sizes = middle(step)
        counts.append(len(tokens))
        step.tokens, step.sizes = tokens + block.ls2(block.mlp(block.norm2(tokens))), sizes
        tokens, sizes = after(step)
    return _head(vit, vit.norm(tokens), sizes, by_size), counts


def attended(index: int, attention: Any, normed: Tensor, sizes: Tensor, prefix: int, proportional: bool) -> Step:
    width = attention.num_heads * attention.head_dim
    query, key, value = (part.unflatten(1, (attention.num_heads, -1)) for part in attention.qkv(normed).split(width, dim=1))
    query, key = attention.q_norm(query), attention.k_norm(key)
    scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(attention.head_dim)
    if proportional:
        scores = scores + sizes.log()
    return Step(index, normed, sizes, prefix, query, key, value, scores.softmax(dim=-1))


def class_attention(step: Step, vit: Any, by_size: bool = False) -> Tensor:
    """(T,): what the class token attends to, or the patch tokens' mean query where logits are not read from it; the mean over heads.

    by_size: whether that mean is weighted by size.
    """
    if vit.global_pool == "token":
        return step.map[:, 0].mean(dim=0)
    patches, sizes = step.query[step.prefix :], step.sizes[step.prefix :]
    query = (patches * sizes[:, None, None]).sum(dim=0) / sizes.sum() if by_size else patches.mean(dim=0)
    scores = torch.einsum("hd,khd->hk", query, step.key) / math.sqrt(step.key.shape[2])
    return scores.softmax(dim=-1).mean(dim=0)


def _head(vit: Any, tokens: Tensor, sizes: Tensor, by_size: bool) -> Tensor:
    if vit.global_pool == "token":
        return vit.forward_head(tokens[None])[0]
    patches = tokens[vit.num_prefix_tokens :]
    weights = sizes[vit.num_prefix_tokens :] if by_size else torch.ones(len(patches), dtype=tokens.dtype)
    return vit.head(vit.fc_norm((patches * weights[:, None]).sum(dim=0) / weights.sum()))


def unlearned(name: str) -> Any:
    """An architecture of timm without numbers: shapes suffice to count."""
    with torch.device("meta"):
        return timm.create_model(name).eval()


def ledger(name: str, *policies: nn.Module) -> tuple[list[int], float, float]:
    """Of a DeiT at 224 pixels under some policies: tokens of each block, GMACs, and GMACs that torch counts in all."""
    module = ReducedViT(unlearned(f"deit_{name}_patch16_224"), policies)
    module(torch.empty(1, 3, 224, 224, device="meta"))
    everything = count(module, (224, 224))
    assert everything.macs is not None, everything.reason
    return [int(one) for one in module.counted["tokens"][0]], float(module.counted["gmacs"]), everything.macs / 1e9
