"""Whether the parts that a model finds move with the image, and stay where it is corrupted or attacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.drawn_maps import drawn_affine
from robustvit.primitives.geometry.resampling import resampled
from robustvit.primitives.inference.part_assignments import enlarged_maps, maps_of_parts, mean_part_iou
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_WHOLE = 1 - 1e-6  # of a pixel that is read within the image, to rounding
_AT_ONCE = 1 << 22  # values of maps at the size of images that are made at once


@analysis(
    family="insides", severity="corruption.severity", source="Aniraj et al. 2024 (PDiscoFormer); the measures are ours",
    url="https://arxiv.org/abs/2407.04538", licence="the authors' code is MIT; no code is used", passes="consistency_passes",
    rules="Of assignments, not of soft maps: each pixel belongs to the part whose map, enlarged bilinearly, is largest there. The "
    "agreement counts the background, which may be most of an image; the overlap does not. A model that finds one part everywhere is "
    "consistent: read the number of parts beside it.",
)  # fmt: skip
def part_consistency(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None,
    degrees: NonNegative = 30.0, shift: Annotated[float, Ge(0), Lt(1)] = 0.1, scale: Annotated[float, Ge(1)] = 1.25,
) -> dict[str, Tensor]:  # fmt: skip
    """Overlap of the parts found in a moved image with the moved parts of the image, and of those of a shifted image with the clean one's.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    degrees, shift, scale: of the affine map drawn for each image, the same for clean and shifted ones: turned by −degrees to degrees, moved
    by up to that share of its side, resized by 1/scale to scale; new pixels repeat the border and are not counted. Of clean images
    value_clean_NAME, of shifted ones value_shifted_NAME: part_iou, the intersection over union of the parts of the image, moved, and of
    those of the moved image, averaged over parts that occur in either, the background not among them (0 where none occurs); part_count, how
    many parts occur in the image. With shifted images value_part_agreement, the share of pixels assigned to the same part or to the
    background in both, and value_part_overlap, the intersection over union as before. Raises HostRefused for a model that finds no parts.
    """
    maps = drawn_affine(draws.at("affine map"), model.size, degrees, shift, (1 / scale, scale)).to(images.device)
    sides = {"clean": (images, maps_of_parts(model, images))}
    shifted = shifted_images("part_consistency", model, images, labels, draws, corruption, attack)
    if shifted is not None:
        sides["shifted"] = (shifted, maps_of_parts(model, shifted))
    columns = {f"value_{side}_{name}": values for side, some in sides.items() for name, values in _moved(model, *some, maps).items()}
    return columns if shifted is None else columns | _compared(sides["clean"][1], sides["shifted"][1], model.size)


def consistency_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """Two an image, the moved one's among them, and some more for maps at the size of images."""
    return shifted_passes(2.5, plugins)


def _moved(model: Classifier, images: Tensor, here: Tensor, maps: Tensor) -> dict[str, Tensor]:
    there, parts = maps_of_parts(model, resampled(images, maps, "edge")), here.shape[1] - 1
    columns: dict[str, list[Tensor]] = {"part_iou": [], "part_count": []}
    for rows in _groups(here, model.size):
        own = enlarged_maps(here[rows], model.size)
        inside = resampled(torch.ones_like(own[:, :1]), maps[rows], "zeros")[:, 0] >= _WHOLE
        moved, found = resampled(own, maps[rows], "edge").argmax(dim=1), enlarged_maps(there[rows], model.size).argmax(dim=1)
        columns["part_iou"].append(mean_part_iou(moved, found, parts, inside))
        occurring = [(own.argmax(dim=1) == part).flatten(1).any(dim=1) for part in range(parts)]
        columns["part_count"].append(torch.stack(occurring).sum(dim=0).float())
    return {name: torch.cat(some) for name, some in columns.items()}


def _compared(clean: Tensor, shifted: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    columns: dict[str, list[Tensor]] = {"value_part_agreement": [], "value_part_overlap": []}
    for rows in _groups(clean, size):
        one, two = (enlarged_maps(some[rows], size).argmax(dim=1) for some in (clean, shifted))
        columns["value_part_agreement"].append((one == two).float().mean(dim=(1, 2)))
        columns["value_part_overlap"].append(mean_part_iou(one, two, clean.shape[1] - 1, torch.ones_like(one, dtype=torch.bool)))
    return {name: torch.cat(some) for name, some in columns.items()}


def _groups(maps: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Rows whose maps at the size of images are made at once."""
    return torch.split(torch.arange(len(maps), device=maps.device), max(1, _AT_ONCE // (maps.shape[1] * size[0] * size[1])))
