"""One step of the optimizer: its groups and rates, and the closure that computes the loss of a batch and its gradients."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, ModelError, with_article
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Closure, Defense
from robustvit.primitives.draws import Draws
from robustvit.training.loss_scale import LossScale
from robustvit.training.processes import Processes
from robustvit.training.recipe import Recipe

_BETAS, _MOMENTUM = (0.9, 0.95), 0.9
_DROPS = (7 / 8, 19 / 20)  # shares of training after which the rate is a tenth of what it was


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer of what is trained. Raises BadParameter for a layer decay where the layers of a model are not known."""
    groups = _groups(model, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, betas=_BETAS)


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, done: float) -> None:
    """Sets the learning rate for the share of the steps that is done."""
    share = done / recipe.warmup if done < recipe.warmup else _falling(recipe, done)
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr * share * group.get("lr_scale", 1.0)


def _falling(recipe: Recipe, done: float) -> float:
    """The share of the highest rate after warmup."""
    if recipe.schedule == "steps":
        return 0.1 ** sum(done >= drop for drop in _DROPS)
    cosine = 0.5 * (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup)))
    return recipe.final + (1 - recipe.final) * cosine


def closure_of(
    defense: Defense, model: nn.Module, batch: Batch, draws: Draws, optimizer: torch.optim.Optimizer, recipe: Recipe,
    whole: int, processes: Processes, scaling: LossScale,
) -> Closure:  # fmt: skip
    """The closure of a step: clears the gradients, computes those of a batch, a part at a time, and returns its mean loss.

    model: from pixels in [0, 1]. batch: this process's share of `whole` samples, over which loss and gradients are means.
    """

    def gradients() -> Tensor:
        optimizer.zero_grad()
        total = batch.images.new_zeros(())
        for part, own in _parts(batch, draws, recipe.accumulate):
            with autocast(recipe, batch.images.device):
                loss = defense.objective(model, part, own) * (len(part) / whole)
            if not loss.requires_grad:
                raise ModelError("the loss has no gradient: the model computes its logits without a graph, as under torch.no_grad.")
            (loss * scaling.factor).backward()  # type: ignore[no-untyped-call]
            total += loss.detach().float()
        processes.add_gradients(model.parameters())
        return processes.sum(total)

    def closure() -> Tensor:
        loss = gradients()
        while bool(loss.isfinite()) and not scaling.undone(model.parameters()):
            loss = gradients()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        return loss

    return closure


def autocast(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which the model computes in the recipe's precision."""
    return contextlib.nullcontext() if recipe.precision == "float32" else torch.autocast(device.type, getattr(torch, recipe.precision))


def _parts(batch: Batch, draws: Draws, count: int) -> Iterator[tuple[Batch, Draws]]:
    """At most so many parts of a batch, as equal as can be, with the draws of their samples."""
    if count == 1:
        yield batch, draws
        return
    rows, start = -(-len(batch) // count), 0
    for part in batch.chunks(rows):
        yield part, draws[torch.arange(start, start + len(part))]
        start += len(part)


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    if recipe.layer_decay < 1:
        return _by_layer(model, recipe)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.dim() > 1]
    others = [parameter for parameter in trainable if parameter.dim() <= 1]
    return [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _by_layer(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    from timm.optim._param_groups import param_groups_layer_decay

    if not hasattr(model, "group_matcher"):
        raise BadParameter(
            f"training's layer_decay is {recipe.layer_decay:g}, and {with_article(type(model).__name__)} does not say which layers it has "
            "(timm's `group_matcher`); leave it at 1."
        )
    found: list[dict[str, Any]] = param_groups_layer_decay(model, recipe.weight_decay, layer_decay=recipe.layer_decay)
    return found
