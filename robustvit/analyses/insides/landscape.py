"""The loss around a model's weights, in a plane of two random directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_POSITIONS = ("pos_embed", "position_embed", "pos_embedding", "relative_position")  # in names of weights that do not move
_SMALL = 1e-7  # as the authors' code has it


@analysis(
    family="insides", severity="corruption.severity", reads_labels=True,
    source="Li et al. 2018, Visualizing the Loss Landscape of Neural Nets; Park and Kim 2022", url="https://arxiv.org/abs/1712.09913",
    licence="a published idea; no code is used", passes="landscape_passes",
    rules="Directions are the same for all images, and for all models with weights of the same shapes. Biases, norms and position "
    "embeddings do not move. Park and Kim take augmented training images and add the weight decay of training; here it is the loss of the "
    "images that are evaluated.",
)  # fmt: skip
def landscape(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None,
    points: Annotated[int, Ge(3)] = 11, reach: Annotated[float, Gt(0)] = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """The loss of each image where the weights are moved along two random directions of the length of the weights themselves.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    Each output channel of a direction is normal, scaled to the length of that channel of the weight (filter normalisation). points: places
    from −reach to reach along each direction, an odd number, so that the middle is the model itself. Columns: value_clean_landscape, a list
    of points² cross-entropies in nats, those along the second direction beside each other; of shifted images value_shifted_landscape.
    """
    if points % 2 == 0:
        raise BadParameter(f"landscape got points={points}; give an odd number, so that the model itself is in the middle.")
    shifted = shifted_images("landscape", model, images, labels, draws, corruption, attack)
    weights = dict(model.named_parameters())
    directions = [_direction(weights, Draws(draws.seed, draws.stream, [f"direction {number}"], images.device)) for number in (1, 2)]
    places = torch.linspace(-reach, reach, points, dtype=torch.float64).tolist()

    @torch.no_grad()
    def measure(some: Tensor) -> dict[str, Tensor]:
        losses = []
        for one in places:
            row = {name: weights[name] + one * step for name, step in directions[0].items()}
            for other in places:
                moved = {name: row[name] + other * step for name, step in directions[1].items()}
                logits = torch.func.functional_call(model, moved, (some,))
                losses.append(functional.cross_entropy(logits, labels, reduction="none"))
        return {"landscape": torch.stack(losses, dim=1).float()}

    with model.in_float32():
        return both(measure, images, shifted)


def landscape_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """One for each place in the plane."""
    return shifted_passes(product_of(spec, "points") ** 2, plugins)


def _direction(weights: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
    """A step for each weight that moves."""
    found = {}
    for name, value in weights.items():
        if value.dim() < 2 or not value.is_floating_point() or any(part in name for part in _POSITIONS):
            continue
        drawn = draws.at(name).normal(*value.shape)[0].to(value).flatten(1)
        lengths = value.flatten(1).norm(dim=1, keepdim=True) / (drawn.norm(dim=1, keepdim=True) + _SMALL)
        found[name] = (drawn * lengths).view_as(value)
    return found
