"""Head pruning: whole attention heads are taken out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.hosts import plain_vit, refusing, require_gradient
from robustvit.primitives.surgery.masks import smallest
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.units import heads_of, keep_heads
from robustvit.spec.registry import transform
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""
_LEAST = 1e-30  # of a block's norm, so that a block without any gradient divides by no zero


@transform(
    family="pruning", source="Michel et al. 2019", url="https://arxiv.org/abs/1905.10650", no_op="amount=0", hosts="plain",
    rules="All heads at once, where the paper goes by steps of a tenth. Importance l1 is ours and needs no data. Not fine-tuned.",
    fit="fit_importance", passes="fit_passes",
)  # fmt: skip
def head_pruning(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    amount: Annotated[float, Ge(0), Lt(1)] = 0.25,
    importance: Literal["l1", "taylor"] = "l1",
    scope: Literal["layer", "global"] = "layer",
    remove: bool = True,
    calibration: Data | None = None,
    samples: Count = 256,
) -> Classifier:
    """Attention head pruning: the heads of least importance are taken out, and at least one of every block stays.

    amount: share of the heads of each block (scope layer) or of the model (global), rounded. importance: the mean |w| of a head's rows of
    the projection to queries, keys and values and of its columns of the output projection (l1); or the mean |∂ cross-entropy / ∂ gate| of a
    gate on its output over `samples` images of `calibration`, divided by the norm over the block (taylor). remove: whether the projections
    shrink, so that MACs fall; otherwise their weights are masked, with equal logits. Blocks that share their projections lose the same
    heads. Raises BadParameter for taylor without calibration. Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        groups = heads_of(plain_vit(module).blocks)
        scores = [l1_importance(group) if importance == "l1" else artifact[str(i)].to(model.device) for i, group in enumerate(groups)]
        for group, pruned in zip(groups, least_heads(scores, amount, scope), strict=True):
            keep_heads(module, group, ~pruned, remove=remove)
        return module

    with refusing("head_pruning", model):
        return changed(model, change)


def l1_importance(attentions: list[Any]) -> Tensor:
    """(heads,): the mean absolute weight of each head of attention modules that share their projection."""
    values = []
    for attention in attentions:
        heads, width = attention.num_heads, attention.head_dim
        rows = attention.qkv.weight.detach().abs().unflatten(0, (3, heads, width)).movedim(1, 0).flatten(1)
        columns = attention.proj.weight.detach().abs().unflatten(1, (heads, width)).movedim(1, 0).flatten(1)
        values.append(torch.cat((rows, columns), dim=1).mean(dim=1))
    return torch.stack(values).mean(dim=0)


def least_heads(scores: list[Tensor], amount: float, scope: str) -> list[Tensor]:
    """Which heads of each block are the least important, ties by index: (heads,) bool for each, never all."""
    if scope == "layer":
        return [smallest(one, min(round(amount * len(one)), len(one) - 1)) for one in scores]
    spared = torch.cat([one.index_fill(0, one.argmax()[None], torch.inf) for one in scores])
    chosen = smallest(spared, min(round(amount * len(spared)), len(spared) - len(scores)))
    return list(torch.split(chosen, [len(one) for one in scores]))


def fit_importance(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, importance: str, calibration: Data | None, samples: int, amount: float, scope: str, remove: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """By the number of each group of blocks that share a projection, (heads,): the mean |∂ cross-entropy / ∂ gate| over its norm."""
    if importance == "l1":
        return {}
    if calibration is None:
        raise BadParameter("head_pruning: importance taylor takes calibration, a data set of other samples than those that are judged.")
    require_gradient("head_pruning", model)
    copied: Any = shared_copy(model, model.card.label)
    groups = heads_of(plain_vit(copied.model).blocks)
    total = [torch.zeros(group[0].num_heads, device=model.device) for group in groups]
    positions, rows = order(calibration.ids)[:samples], model.tile
    for start in range(0, len(positions), rows):
        batch = load_batch(calibration, positions[start : start + rows])
        found = _gate_gradients(copied, groups, batch, rows)
        total = [one + gradient.abs().sum(dim=0) for one, gradient in zip(total, found, strict=True)]
    return {str(i): one / one.norm().clamp_min(_LEAST) for i, one in enumerate(total)}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A gradient pass for each of its samples, none without calibration."""
    found = plugins.get("calibration")
    return Passes(fit=0 if found is None or spec.get("importance") == "l1" else min(int(spec.get("samples", 1)), len(found)))  # type: ignore[arg-type]


def _gate_gradients(copied: Classifier, groups: list[list[Any]], batch: Batch, rows: int) -> list[Tensor]:
    """For each group (rows, heads): the gradient of each sample's cross-entropy with respect to gates of 1 on its heads' outputs."""
    gates = [torch.ones(rows, group[0].num_heads, device=batch.images.device, requires_grad=True) for group in groups]

    def gated(gate: Tensor, width: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
        return lambda _, tokens: (tokens[0] * gate.repeat_interleave(width, dim=1)[:, None],)

    hooks = [
        projection.register_forward_pre_hook(gated(gate, group[0].head_dim))
        for gate, group in zip(gates, groups, strict=True)
        for projection in {id(attention.proj): attention.proj for attention in group}.values()
    ]
    loss = functional.cross_entropy(copied(batch.images), batch.labels, reduction="sum")
    for hook in hooks:
        hook.remove()
    return list(torch.autograd.grad(loss, gates))
