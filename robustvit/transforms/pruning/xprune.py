"""X-Pruner, reduced: heads and neurons are pruned by masks that are learned for every class."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.hosts import plain_vit, refusing, require_gradient
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.units import heads_of, keep_heads, keep_neurons, neurons_of
from robustvit.spec.registry import transform
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""
_ROWS = 64  # images of a step
_RATE = 0.1  # of Adam
_START = 2.0  # logit of every mask before the first step: masks are 0.88


@transform(
    family="pruning", source="Yu and Xiang 2023 (X-Pruner)", url="https://arxiv.org/abs/2303.04935", no_op="keep=1", hosts="plain",
    rules="Reduced: the paper's code was never released. Masks are sigmoids learned with frozen weights, one threshold serves all layers "
    "where the paper learns one for each, smoothness is the variance of a unit's masks over classes (ours), and nothing is fine-tuned.",
    fit="fit_masks", passes="fit_passes", class_maps="heads",
)  # fmt: skip
def xprune(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    calibration: Data,
    keep: Annotated[float, Gt(0), Le(1)] = 0.7,
    sparsity: NonNegative = 1.0,
    smoothness: NonNegative = 1.0,
    samples: Count = 1000,
    epochs: Count = 5,
    remove: bool = True,
) -> Classifier:
    """X-Pruner, reduced: attention heads and MLP neurons with the lowest class-wise masks are taken out until a MAC budget holds.

    Every unit has a mask in [0, 1] for every class, by which its output is multiplied for images of that class while masks are learned on
    `calibration`; its score is the mean over classes. keep: the share of the MACs of heads and neurons that is left at most: units stay in
    the order of their scores, and the best head and neuron of every block in any case. sparsity, smoothness: weights of the mean mask and
    of the mean variance over classes beside the cross-entropy. samples, epochs: images and passes over them. remove: whether layers shrink,
    so that MACs fall; otherwise their weights are masked, with equal logits. The artifact holds the masks (units, classes) of every block.
    Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        vit = plain_vit(module)
        units = units_of(vit)
        kept = within_budget([artifact[one.name].to(model.device).mean(dim=1) for one in units], [one.macs for one in units], keep)
        for one, flags in zip(units, kept, strict=True):
            (keep_heads if one.name.startswith("heads") else keep_neurons)(module, one.owners, flags, remove=remove)
        return module

    with refusing("xprune", model):
        return changed(model, change)


class Units(NamedTuple):
    """The heads or neurons of blocks that share their layers. name: `heads.0`; size: how many; width: channels of each; macs: of each.

    owners: the attention modules or MLPs; into: the layers that take their outputs.
    """

    name: str
    size: int
    width: int
    macs: int
    owners: list[Any]
    into: list[nn.Module]


def units_of(vit: Any) -> list[Units]:
    """All units of timm's plain vision transformer."""
    tokens = vit.patch_embed.num_patches + vit.num_prefix_tokens
    found = []
    for i, group in enumerate(heads_of(vit.blocks)):
        first = group[0]
        macs = first.head_dim * (3 * tokens * first.qkv.in_features + tokens * first.proj.out_features + 2 * tokens**2)
        found.append(Units(f"heads.{i}", first.num_heads, first.head_dim, macs * len(group), group, _distinct(one.proj for one in group)))
    for i, group in enumerate(neurons_of(vit.blocks)):
        first = group[0]
        macs = tokens * (first.fc1.in_features + first.fc2.out_features) * len(group)
        found.append(Units(f"neurons.{i}", first.fc1.out_features, 1, macs, group, _distinct(one.fc2 for one in group)))
    return found


def within_budget(scores: list[Tensor], macs: list[int], keep: float) -> list[Tensor]:
    """Which units stay: (units,) bool for each tensor of scores. macs: of a unit of each.

    The best of each tensor stay, then the best of all, ties by index, for as long as the MACs of what stays are at most the share `keep`.
    """
    best = [one.index_fill(0, one.argmax()[None], torch.inf) for one in scores]
    order = torch.cat(best).argsort(descending=True, stable=True)
    costs = torch.cat([torch.full((len(one),), cost) for one, cost in zip(scores, macs, strict=True)])[order.cpu()].tolist()
    count = max(len(scores), bisect_right(list(accumulate(costs)), keep * sum(costs) * (1 + 1e-12)))
    flags = torch.zeros(len(order), dtype=torch.bool, device=order.device).index_fill_(0, order[:count], True)
    return list(torch.split(flags, [len(one) for one in scores]))


def fit_masks(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, calibration: Data, keep: float, sparsity: float, smoothness: float, samples: int, epochs: int, remove: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """The masks (units, classes) of every block by name, learned by Adam on batches of labelled images in an order drawn for each epoch."""
    require_gradient("xprune", model)
    copied: Any = shared_copy(model, model.card.label)
    units = units_of(plain_vit(copied.model))
    logits = [torch.full((one.size, model.outputs), _START, device=model.device, requires_grad=True) for one in units]
    step = torch.optim.Adam(logits, lr=_RATE)
    chosen = order(calibration.ids)[:samples]
    for epoch in range(epochs):
        shuffled = chosen[draws.at(epoch).permutation(len(chosen))[0].cpu().numpy()]
        for start in range(0, len(shuffled), _ROWS):
            batch = load_batch(calibration, shuffled[start : start + _ROWS])
            masks = [one.sigmoid() for one in logits]
            step.zero_grad()
            torch.autograd.backward(class_loss(copied, units, masks, batch) + regulariser(masks, sparsity, smoothness))
            step.step()
    return {one.name: mask.detach().sigmoid() for one, mask in zip(units, logits, strict=True)}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A gradient pass for each of its samples in every epoch."""
    return Passes(fit=product_of(spec, "epochs") * min(product_of(spec, "samples"), len(plugins["calibration"])))


def regulariser(masks: list[Tensor], sparsity: float, smoothness: float) -> Tensor:
    """The weighted mean mask and mean variance of a unit's masks over classes, both means over blocks. masks: (units, classes)."""
    return sparsity * _mean([one.mean() for one in masks]) + smoothness * _mean([one.var(dim=1).mean() for one in masks])


def class_loss(copied: Classifier, units: list[Units], masks: list[Tensor], batch: Batch) -> Tensor:
    """The mean cross-entropy of a batch, every unit's output multiplied by its mask of the image's class. masks: (units, classes)."""
    losses = [_tile_loss(copied, units, masks, part) for part in batch.chunks(copied.tile)]
    return torch.stack(losses).sum() / len(batch)


def _tile_loss(copied: Classifier, units: list[Units], masks: list[Tensor], part: Batch) -> Tensor:
    labels = functional.pad(part.labels, (0, copied.tile - len(part)))  # rows that fill the tile have masks, too

    def scaled(mask: Tensor, width: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
        return lambda _, tokens: (tokens[0] * mask[:, labels].t().repeat_interleave(width, dim=1)[:, None],)

    hooks = [layer.register_forward_pre_hook(scaled(mask, one.width)) for one, mask in zip(units, masks, strict=True) for layer in one.into]
    loss = functional.cross_entropy(copied(part.images), part.labels, reduction="sum")
    for hook in hooks:
        hook.remove()
    return loss


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def _distinct(layers: Iterator[nn.Module]) -> list[nn.Module]:
    """Each layer once."""
    return list({id(one): one for one in layers}.values())
