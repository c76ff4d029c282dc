"""Semi-structured pruning: so many weights of every few, as sparse tensor cores take them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.surgery.layer_roles import RoledLayer, chosen_layers
from robustvit.primitives.surgery.masks import mask_weight
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="pruning", source="Mishra et al. 2021 (NVIDIA's 2:4 sparsity)", url="https://arxiv.org/abs/2104.08378", no_op="n=4",
    rules="Pruned once by magnitude; the paper then trains again. Computed densely with zeros: bytes are those of non-zeros and a bitmap, "
    "and the speed of sparse tensor cores is not measured.",
)  # fmt: skip
def semi_structured(model: Classifier, *, n: Count = 2, m: Count = 4, layers: Sequence[str] = ()) -> Classifier:
    """N:M sparsity: of every m consecutive inputs of an output, the n weights largest in absolute value are kept.

    n, m: n ≤ m; ties lose the lower index. Along the input channels of convolutions. layers: names or ends of names, default linear layers
    and convolutions but the patch embedding and the head. Raises HostRefused where the inputs of a layer are no multiple of m. Gradients
    are exact.
    """
    if n > m:
        raise BadParameter(f"semi_structured: n is {n} and m is {m}; it keeps n of every m weights, n at most m.")

    def change(module: nn.Module) -> nn.Module:
        for one in chosen_layers(model, module, layers, kinds=(nn.Linear, nn.Conv2d)):
            weight = _weight(one, m, model.card.label)
            mask_weight(one.layer, largest_of_groups(weight.abs(), n, m))
        return module

    return changed(model, change)


def largest_of_groups(scores: Tensor, n: int, m: int) -> Tensor:
    """Which are the n largest of every m consecutive scores along dimension 1, exactly n of them: bool, shaped like `scores`.

    Its size there is a multiple of m; of equal scores the later are kept.
    """
    grouped = scores.reshape(scores.shape[0], -1, m, *scores.shape[2:])
    rank = grouped.argsort(dim=2, stable=True).argsort(dim=2)
    return (rank >= m - n).flatten(1, 2)


def _weight(one: RoledLayer, m: int, label: str) -> Tensor:
    weight: Tensor = one.layer.weight.detach()  # type: ignore[operator,assignment]
    if weight.shape[1] % m:
        raise HostRefused(
            f"'semi_structured' takes layers whose number of inputs is a multiple of m = {m}, and '{one.name}' of '{label}' has "
            f"{weight.shape[1]}; name others with layers=…."
        )
    return weight
