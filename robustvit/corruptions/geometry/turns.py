"""Rotations, affine and perspective maps, each resampled once, bilinearly."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from robustvit.corruptions.geometry.geometry_source import CITATION, LICENCE, RULES, SOURCE, URL
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.borders import Border
from robustvit.primitives.geometry.maps import affine_maps, image_corners, perspective_maps
from robustvit.primitives.geometry.resampling import resampled
from robustvit.spec.registry import corruption

Degrees = Annotated[float, Ge(0), Le(180)]
Lean = Annotated[float, Ge(0), Lt(90)]
Share = Annotated[float, Ge(0), Le(1)]
Part = Annotated[float, Ge(0), Lt(1)]
Inward = Annotated[float, Ge(0), Le(0.6)]  # from 2/3 on, four corners need not form a convex quadrilateral
_INWARD = ((1, 1), (-1, 1), (-1, -1), (1, -1))  # from each corner, upper left first, in (x, y)


@corruption(
    severity="degrees", family="geometry", any_channels=True, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION, rules=RULES
)
def rotation(images: Tensor, draws: Draws, *, degrees: Degrees = 30.0, border: Border = "zeros") -> Tensor:
    """Rotates the image about its centre by an angle drawn for each image. 0 is the identity.

    degrees: the largest angle, in either direction; uniform between. border: what enters, see `shift`.
    """
    nothing = torch.zeros(len(images), device=images.device)
    return resampled(images, affine_maps(_uniform(draws.at("angle"), degrees), nothing, nothing), border)


@corruption(
    severity="strength", family="geometry", any_channels=True, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION,
    rules=RULES + "The paper's at strength 1: 30°, a tenth of the sides, 0.8 to 1.2 times the size, 10° of shear.",
)  # fmt: skip
def affine(
    images: Tensor, draws: Draws, *, strength: Share = 1.0, degrees: Degrees = 30.0, translate: Part = 0.1, scale: Part = 0.2,
    shear: Lean = 10.0, border: Border = "zeros",
) -> Tensor:  # fmt: skip
    """Shears, scales, rotates and shifts the image, all drawn for each image and composed into one map. Strength 0 is the identity.

    strength: the factor of all four ranges, each uniform in either direction: degrees, of the rotation; translate, share of the width and
    of the height, rounded to whole pixels; scale, what the size differs from 1 by; shear, degrees by which the vertical axis leans. border:
    what enters, see `shift`. An image has the same draws at every strength.
    """
    height, width = images.shape[2:]
    angle, grown, lean = (
        _uniform(draws.at(what), strength * most) for what, most in (("angle", degrees), ("scale", scale), ("shear", shear))
    )
    right, down = (_uniform(draws.at(axis), strength * translate * side).round() for axis, side in (("right", width), ("down", height)))
    return resampled(images, affine_maps(angle, right, down, 1.0 + grown, lean), border)


@corruption(
    severity="distortion", family="geometry", any_channels=True, source=SOURCE, url=URL, licence=LICENCE, citation=CITATION,
    rules=RULES + "The paper's distortion is 0.5, of half of the images drawn at random; here of all, and `probability` chooses otherwise.",
)  # fmt: skip
def perspective(images: Tensor, draws: Draws, *, distortion: Inward = 0.5, probability: Share = 1.0, border: Border = "zeros") -> Tensor:
    """Moves the four corners of the image inwards by distances drawn for each of them, and maps it onto them. 0 is the identity.

    distortion: the largest distance, as a share of half of the width and of the height; uniform below, and at most 0.6, so that the corners
    stay those of a convex quadrilateral. probability: of each image being changed. border: what enters, see `shift`.
    """
    height, width = images.shape[2:]
    if distortion == 0 or min(height, width) < 2:
        return images.clone()
    half = torch.tensor([width, height], dtype=torch.float64, device=images.device) / 2
    drawn = draws.at("corners").uniform(4, 2).to(images.device).double()
    corners = image_corners(height, width).to(images.device) + drawn * distortion * half * torch.tensor(_INWARD, device=images.device)
    chosen = draws.at("whether").uniform().to(images.device) < probability
    made = resampled(images, perspective_maps(corners, height, width), border)
    return torch.where(chosen.view(-1, 1, 1, 1), made, images)


def _uniform(draws: Draws, most: float) -> Tensor:
    """(N,) float64, uniform between −most and most."""
    return (draws.uniform(1)[:, 0].double().contiguous() * 2.0 - 1.0) * most
