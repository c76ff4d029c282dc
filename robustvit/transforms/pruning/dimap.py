"""DIMAP: magnitude pruning that is aware of modules, without data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.layer_roles import RoledLayer, weight_layers
from robustvit.primitives.surgery.masks import mask_weight, smallest
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform

_MODULES = ("qkv", "projection", "mlp")


@transform(
    family="pruning", source="He et al. 2024 (DIMAP)", url="https://arxiv.org/abs/2404.13648", no_op="amount=0",
    rules="Written from summaries of the paper, which released no code. That a weight is divided by the sum over all at least as large, "
    "and not over all smaller, is inferred: the other way the smallest weight of every module would score 1 and stay. Not fine-tuned. "
    "Zeros are scattered: report bytes, MACs stay.",
    hosts="attention",
)  # fmt: skip
def dimap(
    model: Classifier, *, amount: Annotated[float, Ge(0), Lt(1)] = 0.5, modules: Literal["network", "block"] = "network"
) -> Classifier:  # fmt: skip
    """Data-independent module-aware pruning: weights rank by their share of what their module holds in weights at least as large.

    The score of a weight is w² / Σ v² over the weights v of its module that are at least as large, itself among them; the share `amount`
    of all weights with the smallest scores becomes zero, exactly. The largest weight of a module scores 1, so that none is emptied while
    as many weights as modules are left, and the scale of a module's weights does not matter. modules: what a module is: all projections to
    queries, keys and values of the network, all output projections, all MLPs; or those of each block. The patch embedding, merging of
    patches, norms and the head stay dense. Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        chosen = [one for one in weight_layers(model, module) if one.role in _MODULES]
        if not chosen:
            raise BadParameter(f"'{model.card.label}' has no layer called as attention or an MLP is (qkv, proj, mlp), which dimap prunes.")
        chosen.sort(key=lambda one: _module_of(one, modules))
        groups = [list(group) for _, group in groupby(chosen, key=lambda one: _module_of(one, modules))]
        scores = torch.cat([module_scores(torch.cat([_weight(one).flatten() for one in group])) for group in groups])
        pruned = torch.split(smallest(scores, round(amount * len(scores))), [_weight(one).numel() for one in chosen])
        for one, zero in zip(chosen, pruned, strict=True):
            mask_weight(one.layer, ~zero.view_as(_weight(one)))
        return module

    return changed(model, change)


def module_scores(weights: Tensor) -> Tensor:
    """(n,) float64 in [0, 1] of the weights (n,) of one module: w² over the sum of squares of all that are at least as large.

    Of equal weights, the later count as the larger. Zeros score 0.
    """
    order = weights.abs().argsort(stable=True)
    squares = weights[order].double() ** 2
    held = squares.flip(0).cumsum(0).flip(0)
    scores = torch.where(squares > 0, squares / held.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return torch.empty_like(scores).scatter_(0, order, scores)


def _module_of(one: RoledLayer, modules: str) -> tuple[str, ...]:
    """What names the module of a layer."""
    return (one.role,) if modules == "network" else (one.role, *_block(one.name.split(".")))


def _block(parts: Iterable[str]) -> list[str]:
    """The beginning of a dotted name up to its last number, that of the block: blocks.3, layers.1.blocks.0."""
    parts = list(parts)
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return parts[: numbers[-1] + 1] if numbers else []


def _weight(one: RoledLayer) -> Tensor:
    return one.layer.weight.detach()  # type: ignore[operator,return-value]
