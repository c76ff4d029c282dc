"""PixMix: images mixed, by addition and multiplication, with images of structure such as fractals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Gt
from PIL import Image
from torch import Tensor

from robustvit.defenses.augmentation.pillow_ops import ALL_OPS, OPS, OpSeverity, apply_op
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Whole
from robustvit.primitives.pixels import pixels, to_uint8
from robustvit.primitives.training.distributions import beta as beta_draws
from robustvit.spec.registry import defense
from robustvit.spec.view import resize_short

_CITATION = """@inproceedings{hendrycks2022pixmix,
  title={{PixMix}: Dreamlike Pictures Comprehensively Improve Safety Measures},
  author={Hendrycks, Dan and Zou, Andy and Mazeika, Mantas and Tang, Leonard and Li, Bo and Song, Dawn and Steinhardt, Jacob},
  booktitle={Conference on Computer Vision and Pattern Recognition},
  year={2022}
}"""
_ZOOM = 9 / 8  # of a mixing image, before a part of the size of the batch's images is cut out
_TINY = 1e-37  # of the second factor, which may have a negative power


class Round(NamedTuple):
    """One mixing. itself: with the image, changed, in place of the mixing image; added: else multiplied; a, b: weights of the two."""

    itself: bool
    added: bool
    a: float
    b: float


@defense(
    family="augmentation", source="Hendrycks et al. 2022", url="https://arxiv.org/abs/2112.05135", citation=_CITATION,
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="Say which mixing set: that of the authors, 14,000 fractals and feature visualisations, is not shipped; `fractals` are computed. "
    "Unlike in the authors' recipes all_ops is off, as four operations are near to corruptions. Evaluate under suite `imagenet-c`.",
)  # fmt: skip
def pixmix(
    *, mixing: Data, k: Whole = 4, beta: Annotated[float, Gt(0)] = 3.0, severity: OpSeverity = 3.0, all_ops: bool = False
) -> Defense:  # fmt: skip
    """PixMix (Hendrycks et al. 2022): an image, in up to k rounds, is added to or multiplied with a mixing image or itself, changed.

    mixing: a data set of images with structure, such as `fractals(categories=64, instances=10)`; its labels are not used. k: 4 in the
    paper; the number of rounds is uniform from 0 to k. The image begins as it is or after one operation, evenly. beta: the larger, the
    less is mixed in; 3 for CIFAR, 4 for ImageNet. severity: 3 and 1 there. all_ops: color, contrast, brightness and sharpness, too.
    """
    ops = tuple((ALL_OPS if all_ops else OPS).values())

    def batch(given: Batch, draws: Draws) -> Batch:
        levels, plans = to_uint8(given.images), drawn_rounds(draws, k, beta)
        which = draws.at("op").integers(k + 1, low=0, high=len(ops)).tolist()
        uniform = draws.at("level").uniform(k + 1, 2).tolist()
        changed_first = (draws.at("start").uniform() < 0.5).tolist()
        partners = mixing_images(mixing, draws.at("mixing"), given.images.shape[2:], given.images.device)

        def changed(row: int, place: int) -> Tensor:
            after = apply_op(Image.fromarray(levels[row]), ops[which[row][place]], tuple(uniform[row][place]), severity)
            return pixels(np.asarray(after)[None], given.images.device)[0]

        made = given.images.clone()
        for row, rounds in enumerate(plans):  # one by one, so that an image has the same bits in any batch
            mixed = changed(row, k) if changed_first[row] else given.images[row]
            for place, one in enumerate(rounds):
                mixed = mixed_once(mixed, changed(row, place) if one.itself else partners[row], one)
            made[row] = mixed
        return given.with_images(made)

    return Defense("pixmix", batch=batch)


def drawn_rounds(draws: Draws, k: int, beta: float) -> list[list[Round]]:
    """The rounds of each sample, 0 to k of them. a, b: of Beta(beta, 1) and Beta(1, beta), or 1 plus, and minus, a Beta(1, beta) each."""
    counts = draws.at("rounds").integers(low=0, high=k + 1).tolist()
    places = []
    for place in range(k):
        own = draws.at(f"round {place}")
        large = beta_draws(own.at("large"), beta, 1.0).tolist()
        small, more, less = (beta_draws(own.at(name), 1.0, beta).tolist() for name in ("small", "more", "less"))
        itself, added, inside = (own.at("choices").uniform(3) < 0.5).T.tolist()
        weights = [
            (one, other) if plain else (1 + up, -down) for plain, one, other, up, down in zip(inside, large, small, more, less, strict=True)
        ]
        places.append([Round(own_image, sums, *pair) for own_image, sums, pair in zip(itself, added, weights, strict=True)])
    return [[places[place][row] for place in range(count)] for row, count in enumerate(counts)]


def mixed_once(first: Tensor, second: Tensor, how: Round) -> Tensor:
    """((2x − 1)a + (2z − 1)b + 1) / 2, or (2x)ᵃ(2z)ᵇ / 2 with 2z at least 1e-37, clipped to [0, 1]."""
    if how.added:
        return (((2 * first - 1) * how.a + (2 * second - 1) * how.b + 1) / 2).clamp_(0.0, 1.0)
    return ((2 * first).clamp_min(0.0) ** how.a * (2 * second).clamp_min(_TINY) ** how.b / 2).clamp_(0.0, 1.0)


def mixing_images(mixing: Data, draws: Draws, size: torch.Size, device: torch.device) -> Tensor:
    """A random part, of a size (H, W), of a random image of a data set for each sample, (N, 3, H, W) in [0, 1]."""
    which = draws.at("which").integers(low=0, high=len(mixing)).tolist()
    corners = draws.at("corner").uniform(2).tolist()
    made = [random_part(Image.fromarray(mixing[index].image), size, corner) for index, corner in zip(which, corners, strict=True)]
    return pixels(np.stack(made), device)


def random_part(image: Image.Image, size: Sequence[int], corner: Sequence[float]) -> np.ndarray:
    """A part of a size (H, W) of an image resized to 9/8 of the longer side. corner: two uniform numbers in [0, 1)."""
    resized = resize_short(image, math.ceil(_ZOOM * max(size)), Image.Resampling.BICUBIC)
    top, left = (int(place * (have - want + 1)) for place, have, want in zip(corner, (resized.height, resized.width), size, strict=True))
    return np.asarray(resized.crop((left, top, left + size[1], top + size[0])))
