"""Rotations and shifts of an image that fool the model: the whole grid, random ones, or found by the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from robustvit.attacks.losses import log_odds, untargeted
from robustvit.attacks.spatial.tried import CITATION, BestPlace, try_places
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.borders import Border
from robustvit.primitives.geometry.maps import affine_maps
from robustvit.primitives.geometry.resampling import resampled
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

_COLUMNS = ("value_rotation", "value_shift_right", "value_shift_down")


@attack(
    severity="rotation", budget="largest rotation, degrees",
    family="spatial", source="Engstrom et al. 2019, Exploring the Landscape of Spatial Robustness (ICML)",
    url="https://arxiv.org/abs/1712.02779", licence="MIT (reference code, MadryLab/adversarial_spatial; none of it is used)",
    citation=CITATION, tells=("value_rotation", "value_shift_right", "value_shift_down"), passes="spatial_passes",
    rules="No ball in a norm: the image is rotated and moved as a whole. Only images that are right when clean are attacked. The paper's "
    "limits are 30° and 3 px of 32, or 24 of 224 (3/28 of the side).",
)  # fmt: skip
def spatial(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, rotation: Annotated[float, Ge(0), Le(180)] = 30.0, shift: Annotated[float, Ge(0), Lt(1)] = 3 / 28,
    method: Literal["grid", "worst", "random", "first"] = "grid", angles: Count = 31, shifts: Count = 5, tries: Count = 10,
    steps: Count = 20, step: Annotated[float, Gt(0), Le(2)] = 0.25, border: Border = "zeros", early: bool = True,
) -> Crafted:  # fmt: skip
    """Rotates and shifts the image within limits so that the model is fooled (Engstrom et al. 2019).

    rotation: the largest angle in degrees, in either direction. shift: the largest shift in either direction, right and down, as a share
    of the width and of the height. method: `grid`, all combinations of `angles` angles and `shifts` shifts in each direction, evenly
    between the limits (one for a limit of 0); both are odd, so that the image itself is one of them, which comes first, then the nearest by
    their largest part of the limits, the same order for every sample. `worst`, `tries` of them drawn uniformly for each sample; `random`,
    one. `first`, signed gradient ascent of `steps` queries from a random start, each `step` of the limits, through the sampler. border:
    what enters: `zeros`, black; `edge`; `reflect`; `circular`. early: a sample is done with at the first image that fools; otherwise all
    are tried and the one of the largest margin is returned, for other models. value_rotation (clockwise, degrees), value_shift_right,
    value_shift_down (pixels): what was found, or what has the largest margin of another class where nothing fools.

    Differs from the paper's code: rotation and shift are one bilinear resampling, about the centre of the image; of several that fool
    the one of the largest margin is taken, not of the largest cross-entropy; the gradient is that of the log odds; steps and sizes of
    `first` are ours.
    """
    limits = _limits(images, rotation, shift)
    search = Search(model, images, labels, draws, early=early)
    best = BestPlace(search, 3)

    def moved(rows: Tensor, at: Tensor) -> Tensor:
        return resampled(images[rows], affine_maps(*at.unbind(1)), border)

    if method == "first":
        start = draws.at("start").uniform(3, low=-1.0, high=1.0).to(images.device).double()
        _ascend(search, best, start, limits, border, steps=steps, step=step)
    elif method == "grid":
        points = grid_points(angles if rotation else 1, shifts if shift else 1).to(limits)
        try_places(search, (points * limits).expand(len(images), -1, -1), moved, best)
    else:
        drawn = draws.at("places").uniform(1 if method == "random" else tries, 3, low=-1.0, high=1.0)
        try_places(search, drawn.to(limits) * limits, moved, best)
    return best.crafted(_COLUMNS)


def grid_points(angles: int, shifts: int) -> Tensor:
    """All combinations of an angle, a shift to the right and one down, (K, 3) float64 in [−1, 1]: the nearest to the image itself first.

    Raises BadParameter for an even number, whose points leave out the image itself.
    """
    for name, count in (("angles", angles), ("shifts", shifts)):
        if count % 2 == 0:
            raise BadParameter(f"attack 'spatial': {name} is {count}; an odd number makes the unmoved image a point of the grid.")
    turns, moves = ((torch.arange(count) - count // 2).double() / max(count // 2, 1) for count in (angles, shifts))
    points = torch.cartesian_prod(turns, moves, moves)
    return points[points.abs().amax(dim=1).argsort(stable=True)]


def _limits(images: Tensor, rotation: float, shift: float) -> Tensor:
    """(3,) float64: degrees, and pixels right and down."""
    height, width = images.shape[2:]
    return torch.tensor([rotation, shift * width, shift * height], dtype=torch.float64, device=images.device)


def _ascend(search: Search, best: BestPlace, at: Tensor, limits: Tensor, border: Border, *, steps: int, step: float) -> None:
    """Signed ascent on places (N, 3) in parts of the limits; each iterate is queried before its step, so that the last takes none."""
    loss = untargeted(log_odds, search.labels)
    for _ in range(steps):
        for rows in torch.split(search.active, search.model.tile):
            leaf = at[rows].detach().requires_grad_(True)
            with torch.enable_grad():
                pixels = resampled(search.images[rows], affine_maps(*(leaf * limits).unbind(1)), border)
            found = search.query_gradient(rows, pixels.detach(), loss)
            best.update(rows, pixels.detach(), (leaf * limits).detach(), found.logits)
            (slope,) = torch.autograd.grad(pixels, leaf, found.gradient)
            at[rows] = (leaf.detach() + step * slope.sign()).clamp(-1.0, 1.0)


def spatial_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A pass for each image that is tried, or a gradient for each step."""
    if spec.get("method") == "first":
        return Passes(gradients=product_of(spec, "steps"))
    if spec.get("method") == "grid":
        turns, moves = (product_of(spec, of) if spec.get(limit) else 1 for of, limit in (("angles", "rotation"), ("shifts", "shift")))
        return Passes(forward=turns * moves**2)
    return Passes(forward=1 if spec.get("method") == "random" else product_of(spec, "tries"))
