"""One patch for all images, that can be printed: learned over places, sizes and turns, judged at one of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import grid_sample

from robustvit.attacks.losses import cross_entropy
from robustvit.attacks.universal import pace, refuse_flat
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.patches import paste
from robustvit.spec.registry import attack
from robustvit.spec.sample_order import order

Count = Annotated[int, Ge(1)]
Radius = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0), Le(1)]
Level = Annotated[float, Ge(0), Le(1)]
Weight = Annotated[float, Ge(0)]
Turn = Annotated[float, Ge(0), Le(180)]
Shape = Literal["circle", "square"]
Look = Callable[[Data, np.ndarray], Batch]

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
_ROWS = 64  # images whose gradients are averaged at a step
_LEAST = 2  # pixels across: less may cover no pixel's middle
_CLIP = 9.0  # of a sample's loss: what is higher than that counts no more, so that few images cannot take all the effort


class Reach(NamedTuple):
    """What a patch may look like in a picture: its side as a share of the picture's shorter one, from smallest to largest, degrees either way, and its shape."""

    smallest: float
    largest: float
    rotation: float
    shape: Shape


@attack(
    severity="largest", family="universal", fit="learn", url="https://arxiv.org/abs/1712.09665", citation=_CITATION,
    source="Brown et al. 2017, Adversarial Patch; smoothness and printable colours after Sharif et al. 2016",
    rules="Learned from images of another split, never from those that it is judged on, unless a suite names the same data twice. What the patch covers is "
    "replaced; every image meets it once, at a place, size and angle drawn for that image.",
)  # fmt: skip
def universal_patch(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, learned: Mapping[str, Tensor],
    *, train: Data, smallest: Share = 0.2, largest: Share = 0.4, rotation: Turn = 20.0, shape: Shape = "circle", target: Annotated[int, Ge(0)] | None = None,
    black: Level = 0.05, white: Level = 0.95, smoothness: Weight = 0.1, samples: Count = 1000, epochs: Count = 10, step: Radius = 8 / 255,
) -> Crafted:  # fmt: skip
    """One patch on every image, learned by expectation over its place, size and rotation. Each image costs one query.

    train: the data it is learned from. smallest, largest: its side, as a share of the picture's shorter side. rotation: degrees, either way. shape: of
    what is pasted. target: the class to be answered; null takes any but the label. Printable means two things here, and no more: no channel of any
    pixel is below `black` or above `white`, which ink and light do not reach, and the total variation, the mean difference of neighbouring
    pixels, is held down with the weight `smoothness`, because fine grain is lost in print. Sharif et al. measure instead how far colours are from those that
    one printer has, which takes that printer. samples: how many images to learn from, the first in evaluation order. epochs: passes over them; each
    meets a new placement every time. step: of the gradient's sign, shrinking to a hundredth along a cosine.
    The patch is (3, s, s) with s = `largest` of the picture's shorter side: `Store.artifact_of(cell)["patch"]`.
    """
    _refuse_nothing(images.shape[2:], smallest)
    search = Search(model, images, labels, draws)
    rows = search.standing
    reach = Reach(smallest, largest, rotation, shape)
    moved = placed(images, learned["patch"].to(images), draws.at("placement").uniform(4).to(images), reach)
    search.look(rows, moved)
    search.leave(rows, moved)
    return search.outcome()


def learn(
    model: Classifier, look: Look, draws: Draws,
    *, train: Data, smallest: float, largest: float, rotation: float, shape: Shape, target: int | None,
    black: float, white: float, smoothness: float, samples: int, epochs: int, step: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The patch (3, s, s): ascent by the sign of the mean gradient of batches, in an order and with placements that each epoch draws.

    What is climbed is the mean cross-entropy of the label, or, with a target, the negative one of the target, minus `smoothness` times the total
    variation. Images of the target class are left out. Raises BadParameter for a target or a range of colours or sizes that there is not, GradientAbsent
    where the model gives no gradient.
    """
    _refuse(model, target, black, white, Reach(smallest, largest, rotation, shape))
    _refuse_nothing(model.size, smallest)
    reach, side = Reach(smallest, largest, rotation, shape), max(2, round(largest * min(model.size)))
    first = order(train.ids)[:samples]
    chosen = first[np.asarray(train.labels)[first] != target] if target is not None else first
    if not len(chosen):
        raise BadParameter("attack 'universal_patch': there is nothing to learn from but images of the target class.")
    patch = draws.at("start").uniform(3, side, side, low=black, high=white)[0].to(model.device)
    turns, turn, flat = epochs * -(-len(chosen) // _ROWS), 0, 0
    for epoch in range(epochs):
        shuffled = chosen[draws.at(epoch).permutation(len(chosen))[0].cpu().numpy()]
        for start in range(0, len(shuffled), _ROWS):
            gradient, absent = _slope(model, look(train, shuffled[start : start + _ROWS]), patch, reach, target, draws.at(turn))
            uphill = gradient - smoothness * _roughness(patch)
            patch = (patch + pace(step, turn, turns) * uphill.sign()).clamp_(black, white)
            flat, turn = flat + absent, turn + 1
        refuse_flat("universal_patch", flat, len(chosen) * (epoch + 1), model)
    return {"patch": patch}


def placed(images: Tensor, patch: Tensor, luck: Tensor, reach: Reach) -> Tensor:
    """Images (N, 3, H, W) with the patch (3, s, s) on each, differentiable in the patch. What it does not cover keeps its bits.

    luck: (N, 4) uniform numbers in [0, 1): size, angle, and where its middle is, such that all of it lies inside.
    """
    height, width = images.shape[2:]
    half = (reach.smallest + (reach.largest - reach.smallest) * luck[:, 0]) * min(height, width) / 2
    angle = (2 * luck[:, 1] - 1) * math.radians(reach.rotation)
    bound = half * (angle.cos().abs() + angle.sin().abs()) if reach.shape == "square" else half
    down, across = (bound + luck[:, 2 + axis] * (side - 2 * bound) for axis, side in ((0, height), (1, width)))
    grid = _seen_from_patch(down, across, half, angle, height, width)
    covered = grid.abs().amax(dim=3) <= 1 if reach.shape == "square" else grid.square().sum(dim=3) <= 1
    shown = grid_sample(patch.expand(len(images), -1, -1, -1), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return paste(images, shown.clamp(0.0, 1.0), covered[:, None])


def _seen_from_patch(down: Tensor, across: Tensor, half: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W, 2): where each pixel of the picture lies on the patch, whose edges are −1 and 1; across, then down."""
    y = (torch.arange(height, device=down.device) + 0.5 - down[:, None])[:, :, None]
    x = (torch.arange(width, device=down.device) + 0.5 - across[:, None])[:, None, :]
    cosine, sine, scale = (one[:, None, None] for one in (angle.cos(), angle.sin(), half))
    return torch.stack(((x * cosine + y * sine) / scale, (y * cosine - x * sine) / scale), dim=3)


def _slope(model: Classifier, batch: Batch, patch: Tensor, reach: Reach, target: int | None, draws: Draws) -> tuple[Tensor, int]:
    """The mean gradient of a batch by the patch, (3, s, s), and of how many samples the gradient is zero although their loss is not clipped."""
    keyed = Draws(draws.seed, draws.stream, batch.ids, model.device)
    search = Search(model.bound(keyed), batch.images, batch.labels, keyed)
    leaf = patch.detach().requires_grad_(True)
    with torch.enable_grad():
        moved = placed(batch.images, leaf, keyed.at("placement").uniform(4).to(batch.images), reach)
    seen = search.climb(
        torch.arange(len(batch), device=model.device), moved.detach(), lambda logits, rows: _aim(logits, batch.labels[rows], target)
    )
    counted = (seen.loss < _CLIP) if target is None else torch.ones_like(seen.loss, dtype=torch.bool)
    absent = int((counted & (seen.gradient.flatten(1) == 0).all(dim=1)).sum())
    weighted = torch.where(counted[:, None, None, None], seen.gradient, 0.0) / len(batch)
    return torch.autograd.grad(moved, leaf, weighted)[0], absent


def _aim(logits: Tensor, labels: Tensor, target: int | None) -> Tensor:
    """(n,) what is climbed."""
    return cross_entropy(logits, labels) if target is None else -cross_entropy(logits, torch.full_like(labels, target))


def _roughness(patch: Tensor) -> Tensor:
    """The gradient of the total variation: the mean magnitude of the differences of neighbouring pixels, down and across."""
    leaf = patch.detach().requires_grad_(True)
    with torch.enable_grad():
        total = leaf.diff(dim=1).abs().mean() + leaf.diff(dim=2).abs().mean()
    return torch.autograd.grad(total, leaf)[0]


def _refuse_nothing(size: tuple[int, ...], smallest: float) -> None:
    """Raises BadParameter for a patch that may fall between the pixels."""
    side = min(size)
    if smallest * side < _LEAST:
        raise BadParameter(
            f"attack 'universal_patch': smallest is {smallest:g}, {smallest * side:.2g} pixels of {side}; a patch has at least {_LEAST}: take {_LEAST / side:.3g} or more."
        )


def _refuse(model: Classifier, target: int | None, black: float, white: float, reach: Reach) -> None:
    who = "attack 'universal_patch'"
    if target is not None and target >= model.outputs:
        raise BadParameter(f"{who}: target is {target}; the model tells classes 0 to {model.outputs - 1} apart.")
    if not black < white or reach.smallest > reach.largest:
        raise BadParameter(
            f"{who}: black {black:g} must be below white {white:g}, and smallest {reach.smallest:g} not above largest {reach.largest:g}."
        )
    most = min(math.radians(reach.rotation), math.pi / 4)
    if reach.shape == "square" and reach.largest * (math.cos(most) + math.sin(most)) > 1:
        raise BadParameter(
            f"{who}: a square of {reach.largest:g} of the picture, turned by {reach.rotation:g} degrees, does not fit into it."
        )
