"""How thresholds of merging and pruning are learned: all tokens stay, with gates between 0 and 1 instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.batch import NO_CLASS, Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.learning import falling, rows_of_steps
from robustvit.primitives.surgery.plain_attention import attention_map, output, projections_of
from robustvit.spec.sample_order import order

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""
_START_MERGE, _START_PRUNE = 0.9, 0.0  # cosine, and attention received
_TEMPERATURE = 0.1  # of the sigmoid whose slope a gate has
_COST_WEIGHT = 10.0  # of the squared distance from the target, beside cross-entropy
_MERGE_TRAVEL, _PRUNE_TRAVEL = 1.0, 1.0  # how far steps may lead: in cosine, and in the attention of the average patch


def learn_thresholds(
    model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, target: float, samples: int, steps: int
) -> dict[str, Tensor]:  # fmt: skip
    """merge and prune, (L,) each: thresholds for which cross-entropy + 10 (operations − target)² is small; weights stay.

    Every step takes a tile of the first `samples` of the data, in an order drawn for every pass over them.
    """
    copied: Any = shared_copy(model, model.card.label)
    if plain_vit(copied.model) is not copied.model:
        raise HostRefused(
            f"'ltmp' learns its thresholds on a model whose tokens nothing else reduces, and those of '{model.card.label}' are reduced "
            "already; put ltmp first."
        )
    vit = copied.model
    depth, patches = len(vit.blocks), vit.patch_embed.num_patches
    start = (torch.full((depth,), value, dtype=next(vit.parameters()).dtype, device=model.device) for value in (_START_MERGE, _START_PRUNE))
    walk = GatedWalk(vit, *start)
    vit.forward = walk
    rates = (2.0 * _MERGE_TRAVEL / steps, 2.0 * _PRUNE_TRAVEL / steps / patches)
    leaves = (walk.merge.requires_grad_(), walk.prune.requires_grad_())
    optimizer = torch.optim.Adam([{"params": [leaf], "lr": rate} for leaf, rate in zip(leaves, rates, strict=True)])
    for step, rows in enumerate(rows_of_steps(order(data.ids)[:samples], model.tile, steps, draws)):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * falling(step, steps)
        batch = load_batch(data, rows)
        optimizer.zero_grad()
        loss = functional.cross_entropy(copied(batch.images), batch.labels, ignore_index=NO_CLASS, reduction="sum") / len(batch)
        (loss + _COST_WEIGHT * (share_of_operations(walk.kept.mean(dim=0).unbind(), patches, vit.embed_dim) - target) ** 2).backward()
        optimizer.step()
    return {"merge": walk.merge.detach(), "prune": walk.prune.detach()}


def share_of_operations(kept: Sequence[Any], tokens: int, width: int) -> Any:
    """The operations of the blocks relative to those of all tokens, from the share of patch tokens that each block leaves.

    Bonnaerens and Dambre 2023, eq. 9: qkv, proj, MLP of four times the width and one of the two products of attention.
    """
    n, d, before, total = tokens, width, 1.0, 0.0
    for after in kept:
        total = total + (2.0 * before * n * d**2 + (before * n) ** 2 * d + 4.0 * after * n * d**2) / (6.0 * n * d**2 + n**2 * d)
        before = after
    return total / len(kept)


class GatedWalk:
    """A plain transformer on gated tokens: what is merged or pruned stays with a gate of 0, and gates have a sigmoid's slope.

    Called with normalised images (N, 3, H, W) it returns their logits, equal to those of tokens that are really gone, and sets `kept`,
    (N, L): the share of patch tokens that each block leaves. merge, prune: (L,) thresholds.
    """

    kept: Tensor

    def __init__(self, vit: Any, merge: Tensor, prune: Tensor) -> None:
        self.vit, self.merge, self.prune = vit, merge, prune

    def __call__(self, images: Tensor) -> Tensor:
        """(N, K) logits of normalised images (N, 3, H, W)."""
        vit = self.vit
        values = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        ones = values.new_ones(values.shape[:2])
        state, kept = _Gated(values, ones, ones), []
        for index, block in enumerate(vit.blocks):
            state = self._block(index, block, state)
            kept.append(state.gates[:, vit.num_prefix_tokens :].mean(dim=1))
        self.kept = torch.stack(kept, dim=1)
        return self._head(state)

    def _block(self, index: int, block: Any, state: _Gated) -> _Gated:
        values, gates, sizes = state
        projected = projections_of(block.attn, block.norm1(values))
        found = attention_map(block.attn, projected, sizes.log()[:, None, None]) * gates[:, None, None]
        found = found / found.sum(dim=3, keepdim=True)
        values = values + block.drop_path1(block.ls1(output(block.attn, found @ projected.value, projected.gate)))
        received = (found * gates[:, None, :, None]).sum(dim=(1, 2)) / (found.shape[1] * gates.sum(dim=1, keepdim=True))
        pairs = partners(projected.key.mean(dim=1), gates > 0.0, self.vit.num_prefix_tokens)
        gone = gate(pairs.similarity, self.merge[index]) * gates
        added = torch.zeros_like(sizes).scatter_add(1, pairs.partner, gone * sizes)
        wide = pairs.partner[:, :, None].expand_as(values)
        joined = torch.zeros_like(values).scatter_add(1, wide, (gone * sizes)[:, :, None] * values)
        values = (values * sizes[:, :, None] + joined) / (sizes + added)[:, :, None]
        importance = received.scatter_reduce(1, pairs.partner, gone * received, "amax")
        gates = gates * (1.0 - gone)
        gates = gates * self._stays(index, importance, gates)
        values = values + block.drop_path2(block.ls2(block.mlp(block.norm2(values))))
        return _Gated(values, gates, sizes + added)

    def _stays(self, index: int, importance: Tensor, gates: Tensor) -> Tensor:
        """(N, T): the gates of pruning; the prefix and the most important patch token stay."""
        prefix = self.vit.num_prefix_tokens
        opened = gate(importance, self.prune[index])
        most = importance.masked_fill(gates == 0.0, -1.0)[:, prefix:].argmax(dim=1, keepdim=True) + prefix
        spared = torch.zeros_like(gates, dtype=torch.bool).scatter(1, most, True)
        spared[:, :prefix] = True
        return torch.where(spared, 1.0, opened)

    def _head(self, state: _Gated) -> Tensor:
        """(N, K): the model's own head; a mean of tokens is weighted by size and gate."""
        vit, values = self.vit, self.vit.norm(state.values)
        if vit.global_pool == "avg" and vit.attn_pool is None:
            first = 0 if vit.pool_include_prefix else vit.num_prefix_tokens
            weights = (state.sizes * state.gates)[:, first:, None]
            pooled = (values[:, first:] * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
            values = torch.cat((values[:, : vit.num_prefix_tokens], pooled), dim=1) if first else pooled
        logits: Tensor = vit.forward_head(values)
        return logits


class _Gated(NamedTuple):
    """values: (N, T, D); gates: (N, T), 1 for tokens that count and 0 for others; sizes: (N, T)."""

    values: Tensor
    gates: Tensor
    sizes: Tensor


class Partners(NamedTuple):
    """Of every token, prefix included: the one into which it may be merged, (N, T) int64, and how similar that is, −∞ where it may not."""

    partner: Tensor
    similarity: Tensor


def partners(keys: Tensor, alive: Tensor, prefix: int) -> Partners:
    """For patch tokens at even positions the nearest by cosine of those at odd ones. keys: (N, T, d); alive: (N, T) bool, who counts."""
    unit = functional.normalize(keys, dim=-1)
    patch = torch.arange(keys.shape[1], device=keys.device) >= prefix
    odd = (alive.cumsum(dim=1) - 1) % 2 == 1
    target, source = alive & odd & patch, alive & ~odd & patch
    best = (unit @ unit.transpose(1, 2)).masked_fill(~target[:, None], -torch.inf).max(dim=2)
    return Partners(best.indices, best.values.masked_fill(~source, -torch.inf))


def gate(value: Tensor, threshold: Tensor) -> Tensor:
    """1 where a value is above the threshold, else 0, with the slope of sigmoid((value − threshold) / 0.1)."""
    soft = ((value - threshold) / _TEMPERATURE).sigmoid()
    return (value > threshold).to(soft.dtype) + (soft - soft.detach())  # the difference is 0, so that a gate is 0 or 1 to the bit
