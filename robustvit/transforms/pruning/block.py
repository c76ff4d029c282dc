"""Block pruning: square blocks of linear layers become zero, as much of each layer as costs least."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

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
from robustvit.primitives.surgery.hosts import require_gradient
from robustvit.primitives.surgery.layer_roles import RoledLayer, chosen_layers
from robustvit.primitives.surgery.masks import mask_weight, smallest, weight_parameter
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec
from robustvit.transforms.pruning.allocation import Curve, equal_slope

LoadBatch: TypeAlias = Callable[[Data, np.ndarray], Batch]
"""Data and positions in it → their batch."""
_ROWS = 64  # images whose gradients are summed at once
_LEVELS = 100  # steps of a distortion curve
_LEAST = 1e-30  # of a sum of squares, so that a layer of zeros divides by no zero
_RIDGE = 1e-7  # of the identity beside g gᵀ in the curvature, as in the authors' code


@transform(
    family="pruning", source="Xu et al. 2024 (LPViT)", url="https://arxiv.org/abs/2407.02068", no_op="amount=0", hosts="attention",
    rules="Without LPViT's model of power and its least sparsity of 5 % a layer, and not fine-tuned. Equal slopes are found on the lower "
    "convex hull of distortion curves that never fall, which the authors smooth exponentially; by weights, not FLOPs. With importance l1 "
    "the distortion is the share of a layer's sum of squares (ours). One block of every layer stays. Computed densely: MACs stay.",
    fit="fit_taylor", passes="fit_passes",
)  # fmt: skip
def block_pruning(
    model: Classifier,
    artifact: Mapping[str, Tensor],
    *,
    amount: Annotated[float, Ge(0), Lt(1)] = 0.5,
    block: Count = 32,
    importance: Literal["l1", "taylor"] = "l1",
    allocation: Literal["uniform", "equal-slope"] = "uniform",
    calibration: Data | None = None,
    samples: Count = 256,
    layers: Sequence[str] = (),
) -> Classifier:
    """Block sparsity: of the block × block squares of each linear layer those of least importance become zero.

    amount: share of the blocks of each layer, at least so many (uniform); or at most this share of the weights of all layers together,
    where a little more would cost every layer alike (equal-slope). block: side of a square; those at the right and lower edges are smaller
    and count by their own area. importance: the mean of |w| over a block, or of |w · g|, g being the gradient of the mean squared logit
    over `samples` images of `calibration`. layers: names or ends of names, default all linear layers but the head. Raises BadParameter for
    taylor without calibration. Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        chosen = chosen_layers(model, module, layers, kinds=(nn.Linear,))
        found = [_blocks(one, block, artifact if importance == "taylor" else None) for one in chosen]
        counts = [min(len(one.order) - 1, math.ceil(amount * len(one.order) - 1e-9)) for one in found]  # less an error of rounding
        if allocation == "equal-slope":
            counts = equal_slope_counts(found, amount)
        for (_, layer, _), one, count in zip(chosen, found, counts, strict=True):
            mask_weight(layer, ~_spread(smallest(one.scores, count), block, weight_parameter(layer).shape))
        return module

    return changed(model, change)


def fit_taylor(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, block: int, importance: str, calibration: Data | None, samples: int, layers: Sequence[str], amount: float, allocation: str,
) -> dict[str, Tensor]:  # fmt: skip
    """For each linear layer, by name, sums of |w·g|, w·g and (w·g)² over its blocks: (3, rows, columns). Nothing where importance is l1."""
    if importance == "l1":
        return {}
    if calibration is None:
        raise BadParameter("block_pruning: importance taylor takes calibration, a data set of other samples than those that are judged.")
    require_gradient("block_pruning", model)
    copied: Any = shared_copy(model, model.card.label)
    chosen = chosen_layers(model, copied.model, layers, kinds=(nn.Linear,))
    weights = [weight_parameter(one.layer).requires_grad_() for one in chosen]
    positions = order(calibration.ids)[:samples]
    total = [torch.zeros_like(weight) for weight in weights]
    for start in range(0, len(positions), _ROWS):
        logits = copied(load_batch(calibration, positions[start : start + _ROWS]).images)
        gradients = torch.autograd.grad((logits**2).mean(dim=1).sum() / len(positions), weights)
        total = [one + gradient for one, gradient in zip(total, gradients, strict=True)]
    products = [weight.detach() * gradient for weight, gradient in zip(weights, total, strict=True)]
    return {
        one.name: torch.stack([block_sums(values, block) for values in (product.abs(), product, product**2)])
        for one, product in zip(chosen, products, strict=True)
    }


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A gradient pass for each of its samples, none without calibration."""
    found = plugins.get("calibration")
    return Passes(fit=0 if found is None or spec.get("importance") == "l1" else min(int(spec.get("samples", 1)), len(found)))  # type: ignore[arg-type]


class Blocks(NamedTuple):
    """The blocks of a layer (rows, columns). scores: their importance; areas: weights in each; order: flat, least important first.

    products, squares, weights: sums over each block of w·g, (w·g)² and w²; without gradients products and squares are None.
    """

    scores: Tensor
    areas: Tensor
    weights: Tensor
    products: Tensor | None = None
    squares: Tensor | None = None

    @property
    def order(self) -> Tensor:
        """The places of the blocks, least important first, ties by index."""
        return self.scores.flatten().argsort(stable=True)


def equal_slope_counts(found: Sequence[Blocks], amount: float) -> list[int]:
    """How many blocks of each layer become zero, at most `amount` of all weights."""
    steps = [sorted({min(len(one.order) - 1, round(level / _LEVELS * len(one.order))) for level in range(_LEVELS + 1)}) for one in found]
    everything = sum(float(one.areas.sum()) for one in found)
    curves = [distortion_curve(one, counts) for one, counts in zip(found, steps, strict=True)]
    share = min(1.0, amount * everything / max(1.0, sum(curve.removed[-1] for curve in curves)))
    return [counts[level] for counts, level in zip(steps, equal_slope(curves, share), strict=True)]


def distortion_curve(blocks: Blocks, counts: Sequence[int]) -> Curve:
    """Weights removed, and what it costs to remove so many blocks, never less than to remove fewer.

    With gradients mean((w·g)²) + ½ ((Σ w·g)² + 1e-7 Σ w²) over the weights removed, the mean over all of the layer; without, their share
    of the layer's Σ w².
    """

    def summed(values: Tensor) -> Tensor:
        sums = functional.pad(values.flatten()[blocks.order].double().cumsum(0), (1, 0))
        return sums[torch.tensor(counts, device=sums.device)]

    removed = summed(blocks.weights)
    distortion = removed / blocks.weights.sum().clamp_min(_LEAST)
    if blocks.products is not None and blocks.squares is not None:
        first = summed(blocks.squares) / blocks.areas.sum()
        distortion = first + 0.5 * (summed(blocks.products) ** 2 + _RIDGE * removed)
    return Curve(summed(blocks.areas).tolist(), distortion.cummax(0).values.tolist())


def block_sums(matrix: Tensor, block: int) -> Tensor:
    """Sums over block × block squares of a matrix, those at its right and lower edges smaller: (⌈rows/block⌉, ⌈columns/block⌉)."""
    rows, columns = matrix.shape
    padded = functional.pad(matrix, (0, -columns % block, 0, -rows % block))
    return padded.reshape(-(-rows // block), block, -(-columns // block), block).sum(dim=(1, 3))


def _blocks(one: RoledLayer, block: int, taylor: Mapping[str, Tensor] | None) -> Blocks:
    weight: Tensor = one.layer.weight.detach()  # type: ignore[operator,assignment]
    areas, weights = block_sums(torch.ones_like(weight), block), block_sums(weight**2, block)
    if taylor is None:
        return Blocks(block_sums(weight.abs(), block) / areas, areas, weights)
    sizes, products, squares = taylor[one.name].to(weight)
    return Blocks(sizes / areas, areas, weights, products, squares)


def _spread(chosen: Tensor, block: int, shape: Sequence[int]) -> Tensor:
    """What is said of blocks, of every weight (rows, columns)."""
    return chosen.repeat_interleave(block, 0).repeat_interleave(block, 1)[: shape[0], : shape[1]]
