"""Low-rank compression: linear layers by their truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.factored import FactoredLinear
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.layer_roles import RoledLayer, chosen_layers
from robustvit.primitives.surgery.linear import linear_of
from robustvit.primitives.surgery.modules import changed, replace_layer
from robustvit.spec.registry import transform


@transform(
    family="low-rank", source="Eckart and Young 1936; SVD of trained layers as in Denton et al. 2014", url="https://arxiv.org/abs/1404.0736",
    rules="Data-free and not fine-tuned. Report MACs and bytes beside accuracy: half of the rank is more than half of them. torch's own "
    "MultiheadAttention keeps its input projection.",
    hosts="attention", no_op="rank_share=1",
)  # fmt: skip
def low_rank(
    model: Classifier,
    *,
    rank_share: Annotated[float, Gt(0), Le(1)] = 0.5,
    budget: Annotated[float, Gt(0), Le(1)] | None = None,
    layers: Sequence[str] = (),
) -> Classifier:
    """Low-rank linear layers: each weight (out, in) becomes its nearest matrix of a lower rank, by truncated SVD.

    rank_share: the rank as a share of min(out, in), rounded, at least 1; at 1 a layer stays as it is. A layer becomes two where that saves,
    rank · (out + in) < out · in, and stays one of the truncated weight elsewhere. budget: instead, the share of the weights of these layers
    that is left at most: every layer keeps the fewest singular values that hold one share of its energy (sum of squares), the largest
    share that the budget allows, and stays as it is where two factors would not save. layers: names or ends of names, default all linear
    layers but the head. Gradients are exact.
    """

    def change(module: nn.Module) -> nn.Module:
        chosen = chosen_layers(model, module, layers, kinds=(nn.Linear,))
        for one in chosen:
            _refuse_quantised(one)
            _add_bias_separately(module, one.name)
        if budget is None:
            _truncate(module, chosen, rank_share)
        else:
            _keep_energy(module, chosen, budget)
        return module

    with refusing("low_rank", model):
        return changed(model, change)


class Decomposition(NamedTuple):
    """The thin SVD of a weight (out, in): left (out, k), values (k,) falling, right (k, in), k = min(out, in)."""

    left: Tensor
    values: Tensor
    right: Tensor

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """(out, rank) and (rank, in): their product is the nearest matrix of that rank; both have the roots of the singular values."""
        root = self.values[:rank].sqrt()
        return self.left[:, :rank] * root, root[:, None] * self.right[:rank]


def decompose(weight: Tensor) -> Decomposition:
    """The SVD of a matrix."""
    return Decomposition(*torch.linalg.svd(weight.detach(), full_matrices=False))


def ranks_within(energies: Sequence[Tensor], shapes: Sequence[tuple[int, int]], budget: float) -> list[int | None]:
    """For each layer the rank that holds the largest common share of energy within the budget; None: it stays whole.

    energies: for each layer its squared singular values, falling. shapes: (out, in) of each. budget: share of all weights that is left.
    Where not even rank 1 everywhere fits, that is the answer.
    """
    held = [(values.double().cumsum(0) / values.double().sum()).tolist() for values in energies]
    levels = sorted({level for one in held for level in one})

    def ranks(level: float) -> list[int | None]:
        found = [next((i + 1 for i, share in enumerate(one) if share >= level), len(one)) for one in held]
        return [rank if rank * sum(shape) < shape[0] * shape[1] else None for rank, shape in zip(found, shapes, strict=True)]

    def weights(level: float) -> int:
        return sum(
            shape[0] * shape[1] if rank is None else rank * sum(shape) for rank, shape in zip(ranks(level), shapes, strict=True)
        )  # fmt: skip

    most = budget * sum(out * into for out, into in shapes)
    low, high = 0, len(levels)  # levels[low] fits, or is the lowest; levels[high] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if weights(levels[middle]) <= most else (low, middle)
    return ranks(levels[low])


def _truncate(module: nn.Module, chosen: list[RoledLayer], share: float) -> None:
    for name, layer, _ in chosen:
        weight, bias = _tensors(layer)
        full = min(weight.shape)
        rank = max(1, round(share * full))
        if rank == full:
            continue
        up, down = decompose(weight).factors(rank)
        if rank * sum(weight.shape) < weight.numel():
            replace_layer(module, name, FactoredLinear(down=linear_of(down, None), up=linear_of(up, bias)))
        else:
            replace_layer(module, name, linear_of(up @ down, bias))


def _keep_energy(module: nn.Module, chosen: list[RoledLayer], budget: float) -> None:
    found = [decompose(_tensors(layer)[0]) for _, layer, _ in chosen]
    shapes = [(one.left.shape[0], one.right.shape[1]) for one in found]
    for (name, layer, _), one, rank in zip(chosen, found, ranks_within([one.values**2 for one in found], shapes, budget), strict=True):
        if rank is None:
            replace_layer(module, name, FactoredLinear(whole=layer))
        else:
            up, down = one.factors(rank)
            replace_layer(module, name, FactoredLinear(down=linear_of(down, None), up=linear_of(up, _tensors(layer)[1])))


def _tensors(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    return layer.weight, layer.bias  # type: ignore[return-value]


def _refuse_quantised(one: RoledLayer) -> None:
    if hasattr(one.layer, "stored"):
        raise HostRefused(f"layer '{one.name}' has quantised weights, which its factors would not have; quantise after this transform.")


def _add_bias_separately(module: nn.Module, name: str) -> None:
    """EVA's attention multiplies by its layer's weight itself, unless its bias is added afterwards: then two factors save."""
    parent: Any = module.get_submodule(name.rpartition(".")[0])
    if hasattr(parent, "qkv_bias_separate"):
        parent.qkv_bias_separate = True
