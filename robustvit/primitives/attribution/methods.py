"""Attribution methods by name: how much each patch of an image counts for a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.attribution.attention_gradients import identifiability_gradient, legrad, rollout
from robustvit.primitives.attribution.recorded import patch_grid
from robustvit.primitives.attribution.reference_maps import centre_map, random_map
from robustvit.primitives.attribution.token_gradients import gradcam, input_times_gradient
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import bound_rows
from robustvit.primitives.passes import Passes

Attribution = Literal["legrad", "rollout", "gradient", "gradcam", "identifiability", "random", "centre"]
Explaining = Literal["legrad", "rollout", "gradient", "gradcam", "identifiability"]

_METHODS: dict[str, Callable[[Classifier, Tensor, Tensor, bool], Tensor]] = {
    "legrad": legrad, "rollout": rollout, "gradient": input_times_gradient, "gradcam": gradcam, "identifiability": identifiability_gradient,
}  # fmt: skip
_PASSES = {"rollout": Passes(forward=1.0), "random": Passes(), "centre": Passes()}


def attribution(name: Attribution, model: Classifier, images: Tensor, classes: Tensor, draws: Draws) -> Tensor:
    """How much each patch of images (N, 3, H, W) in [0, 1] counts for a class, (N, rows, columns) float32, at least 0.

    name: `legrad`, `rollout`, `gradient` (input times gradient), `gradcam`, `identifiability`; and `random`, from the draws, and `centre`,
    which know nothing of the model and stand beside the others. classes: (N,), which class is explained; rollout, random and centre are the
    same for all. Scales differ between methods and images: compare orders. Raises HostRefused or ModelError for a model that a method does
    not take, or whose map is not finite.
    """
    if name in ("random", "centre"):
        grid = patch_grid(model)
        return (random_map(grid, draws) if name == "random" else centre_map(grid, len(images))).to(images.device)
    found = _METHODS[name](model, images, classes, False).detach().float()
    if not bool(torch.isfinite(found).all()):
        raise ModelError(f"model '{model.card.label}': its attribution '{name}' has values that are not finite numbers.")
    return found


def differentiable_attribution(name: Explaining, model: Classifier, images: Tensor, classes: Tensor) -> Tensor:
    """As `attribution`, with gradients to the images, which require them: second derivatives of the model, by unfused attention."""
    return _METHODS[name](model, images, classes, True)


def attribution_passes(name: Attribution) -> Passes:
    """Passes through the model for the map of one image: one, with a gradient but for rollout; none where the model is not read.

    The gradients of LeGrad and identifiability run through one block each, and count as one. Not counted: one blank image for `random` and
    `centre`.
    """
    return _PASSES.get(name, Passes(gradients=1.0))


@torch.no_grad()
def tiled_logits(model: Classifier, images: Tensor) -> Tensor:
    """(N, K) logits, a tile at a time, of a model that may be bound to its rows. Raises ModelError where some are not finite."""
    rows = torch.split(torch.arange(len(images), device=images.device), model.tile)
    logits = torch.cat([bound_rows(model, some)(images[some]) for some in rows])
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"model '{model.card.label}' gives logits that are not finite numbers.")
    return logits


def patch_order(maps: Tensor, descending: bool = True) -> Tensor:
    """(N, P) patches counted by row, those that count most first, or least; of equal ones the earlier first. maps: (N, rows, columns)."""
    return maps.flatten(1).argsort(dim=1, descending=descending, stable=True)


def patches_of(share: float, patches: int) -> int:
    """How many patches are the top `share` of so many: the nearest whole number, a half up, at least 1.

    Raises BadParameter for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise BadParameter(f"top is {share}; it is a share of the patches, above 0 and at most 1.")
    return max(1, int(share * patches + 0.5))
