"""One printable patch for all images, fitted by expectation over its place, size and rotation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import grid_sample

from robustvit.attacks.losses import log_odds, untargeted
from robustvit.attacks.universal import LoadBatch, MeanGradient, ascend, clipped_gradients, fit_passes  # noqa: F401 (named by `passes`)
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted, Loss, Search
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.patches import paste
from robustvit.spec.registry import attack
from robustvit.spec.sample_order import order

Share = Annotated[float, Gt(0), Le(1)]
Level = Annotated[float, Ge(0), Le(1)]
Weight = Annotated[float, Ge(0)]
Turn = Annotated[float, Ge(0), Le(180)]
Shape = Literal["circle", "square"]

_CITATION = """@article{brown2017adversarial,
  title={Adversarial Patch},
  author={Brown, Tom B. and Man{\\'e}, Dandelion and Roy, Aurko and Abadi, Mart{\\'i}n and Gilmer, Justin},
  journal={arXiv preprint arXiv:1712.09665},
  year={2017}
}
@inproceedings{sharif2016accessorize,
  title={Accessorize to a Crime: Real and Stealthy Attacks on State-of-the-Art Face Recognition},
  author={Sharif, Mahmood and Bhagavatula, Sruti and Bauer, Lujo and Reiter, Michael K.},
  booktitle={ACM SIGSAC Conference on Computer and Communications Security},
  year={2016}
}"""
_LEAST = 2  # pixels across: a smaller patch may cover no pixel's centre
_CLIP = 9.0  # a sample's loss counts only up to this, so that a few images do not dominate


class Placement(NamedTuple):
    """The range of placements: side as a share of the image's shorter side, rotation in degrees either way, and shape."""

    smallest: float
    largest: float
    rotation: float
    shape: Shape


@attack(
    severity="largest", budget="largest side of the patch, of the image's",
    family="universal", fit="fit_patch", url="https://arxiv.org/abs/1712.09665", citation=_CITATION,
    source="Brown et al. 2017, Adversarial Patch; smoothness and printable colours after Sharif et al. 2016",
    rules="Fitted to images of another split, never to those that it is evaluated on, unless a suite names the same data twice. The pixels "
    "under the patch are replaced; every image gets it once, at a place, size and angle drawn for that image.",
    passes="fit_passes", version=2,
)  # fmt: skip
def universal_patch(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, artifact: Mapping[str, Tensor],
    *, train: Data, smallest: Share = 0.2, largest: Share = 0.4, rotation: Turn = 20.0, shape: Shape = "circle",
    target: Annotated[int, Ge(0)] | None = None,
    black: Level = 0.05, white: Level = 0.95, smoothness: Weight = 0.1, samples: Count = 1000, epochs: Count = 10, step: Radius = 8 / 255,
) -> Crafted:  # fmt: skip
    """Adversarial patch (Brown et al. 2017): one patch on every image, fitted by expectation over place, size and rotation (EOT).

    Each image costs one query. train: the data it is fitted to. smallest, largest: its side, as a share of the image's shorter side.
    rotation: degrees, either way. shape: of the patch. target: the class to be predicted; null for any but the label. black, white: the
    range of every channel of every pixel, because ink and light reach no further. smoothness: weight of the total variation, the mean
    difference of neighbouring pixels, because fine grain is lost in print. samples: how many images to fit to, the first in evaluation
    order. epochs: passes over them, each with new placements. step: step size along the gradient's sign, decaying to a hundredth of it
    along a cosine. The patch is (3, s, s) with s = `largest` of the image's shorter side: `Store.artifact_of(cell)["patch"]`.

    The objective is the mean over images of the log odds against the label, or for the target, each up to 9, less the smoothness. Differs
    from the papers: their mean cross-entropy weighs an image by 1 − p and loses those that the model is sure of; and printable means
    `black`, `white` and `smoothness` alone, where Sharif et al. also measure the distance of colours from those of one printer.
    """
    _refuse_tiny(images.shape[2:], smallest)
    search = Search(model, images, labels, draws)
    rows = search.active
    placement = Placement(smallest, largest, rotation, shape)
    moved = placed(images, artifact["patch"].to(images), draws.at("placement").uniform(4).to(images), placement)
    search.query(rows, moved)
    search.keep_best(rows, moved)
    return search.outcome()


def fit_patch(
    model: Classifier, load_batch: LoadBatch, draws: Draws,
    *, train: Data, smallest: float, largest: float, rotation: float, shape: Shape, target: int | None,
    black: float, white: float, smoothness: float, samples: int, epochs: int, step: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The patch (3, s, s): ascent along the sign of the mean gradient of batches, in an order and with placements drawn for each epoch.

    The objective is the mean log odds against the label, or for the target, minus `smoothness` times the total variation. Images of the
    target class are left out. Raises BadParameter for a target, a range of colours or sizes that does not exist, GradientAbsent where the
    model gives no gradient.
    """
    placement, side = Placement(smallest, largest, rotation, shape), max(2, round(largest * min(model.size)))
    _refuse(model, target, black, white, placement)
    _refuse_tiny(model.size, smallest)
    first = order(train.ids)[:samples]
    chosen = first[np.asarray(train.labels)[first] != target] if target is not None else first
    if not len(chosen):
        raise BadParameter("attack 'universal_patch': the data to fit it to hold nothing but images of the target class.")

    def gradient(batch: Batch, patch: Tensor, draws: Draws) -> MeanGradient:
        return _patch_gradient(model, batch, patch, placement, target, draws)

    def stepped(patch: Tensor, gradient: Tensor, decay: float) -> Tensor:
        return (patch + step * decay * (gradient - smoothness * _total_variation_gradient(patch)).sign()).clamp_(black, white)

    start = draws.at("start").uniform(model.channels, side, side, low=black, high=white)[0].to(model.device)
    return {"patch": ascend("universal_patch", model, start, lambda at: load_batch(train, at), chosen, epochs, draws, gradient, stepped)}


def placed(images: Tensor, patch: Tensor, uniforms: Tensor, placement: Placement) -> Tensor:
    """Images (N, 3, H, W) with the patch (3, s, s) pasted on each, differentiable in the patch; other pixels keep their bits.

    uniforms: (N, 4) numbers in [0, 1): size, angle, and row and column of the centre, such that the whole patch lies inside the image.
    """
    height, width = images.shape[2:]
    half = (placement.smallest + (placement.largest - placement.smallest) * uniforms[:, 0]) * min(height, width) / 2
    angle = (2 * uniforms[:, 1] - 1) * math.radians(placement.rotation)
    bound = half * (angle.cos().abs() + angle.sin().abs()) if placement.shape == "square" else half
    down, across = (bound + uniforms[:, 2 + axis] * (side - 2 * bound) for axis, side in ((0, height), (1, width)))
    grid = _patch_coordinates(down, across, half, angle, height, width)
    covered = grid.abs().amax(dim=3) <= 1 if placement.shape == "square" else grid.square().sum(dim=3) <= 1
    pasted = grid_sample(patch.expand(len(images), -1, -1, -1), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return paste(images, pasted.clamp(0.0, 1.0), covered[:, None])


def _patch_coordinates(down: Tensor, across: Tensor, half: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """The coordinates of each pixel of the image on the patch, (N, H, W, 2), across then down; the patch spans −1 to 1."""
    y = (torch.arange(height, device=down.device) + 0.5 - down[:, None])[:, :, None]
    x = (torch.arange(width, device=down.device) + 0.5 - across[:, None])[:, None, :]
    cosine, sine, scale = (one[:, None, None] for one in (angle.cos(), angle.sin(), half))
    return torch.stack(((x * cosine + y * sine) / scale, (y * cosine - x * sine) / scale), dim=3)


def _patch_gradient(model: Classifier, batch: Batch, patch: Tensor, placement: Placement, target: int | None, draws: Draws) -> MeanGradient:
    """The mean gradient of a batch with respect to the patch, (3, s, s). draws: of the batch."""
    leaf = patch.detach().to(batch.images).requires_grad_(True)
    with torch.enable_grad():
        moved = placed(batch.images, leaf, draws.at("placement").uniform(4).to(batch.images), placement)
    gradients, absent = clipped_gradients(model, batch, moved.detach(), _objective(batch.labels, target), _CLIP, draws)
    return MeanGradient(torch.autograd.grad(moved, leaf, gradients / len(batch))[0], absent)


def _objective(labels: Tensor, target: int | None) -> Loss:
    if target is None:
        return untargeted(log_odds, labels)
    return lambda logits, rows: -log_odds(logits, torch.full_like(rows, target))


def _total_variation_gradient(patch: Tensor) -> Tensor:
    """The gradient of the total variation, the mean magnitude of the differences of neighbouring pixels, down and across."""
    leaf = patch.detach().requires_grad_(True)
    with torch.enable_grad():
        total = leaf.diff(dim=1).abs().mean() + leaf.diff(dim=2).abs().mean()
    return torch.autograd.grad(total, leaf)[0]


def _refuse_tiny(size: tuple[int, ...], smallest: float) -> None:
    """Raises BadParameter for a patch so small that it may cover no pixel."""
    side = min(size)
    if smallest * side < _LEAST:
        raise BadParameter(
            f"attack 'universal_patch': smallest is {smallest:g}, {smallest * side:.2g} pixels of {side}; a patch has at least {_LEAST}: "
            f"take {_LEAST / side:.3g} or more."
        )


def _refuse(model: Classifier, target: int | None, black: float, white: float, placement: Placement) -> None:
    who = "attack 'universal_patch'"
    if target is not None and target >= model.outputs:
        raise BadParameter(f"{who}: target is {target}; the model has classes 0 to {model.outputs - 1}.")
    if not black < white or placement.smallest > placement.largest:
        raise BadParameter(
            f"{who}: black {black:g} must be below white {white:g}, and smallest {placement.smallest:g} not above largest "
            f"{placement.largest:g}."
        )
    most = min(math.radians(placement.rotation), math.pi / 4)
    if placement.shape == "square" and placement.largest * (math.cos(most) + math.sin(most)) > 1:
        raise BadParameter(
            f"{who}: a square of {placement.largest:g} of the image, rotated by {placement.rotation:g} degrees, does not fit into it."
        )
