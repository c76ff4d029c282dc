"""The worst of all small shifts of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from robustvit.attacks.spatial.tried import BestPlace, try_places
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.borders import Border
from robustvit.primitives.geometry.whole_shifts import nearest_first, refuse_far, shifted
from robustvit.primitives.limits import Whole
from robustvit.primitives.passes import Passes, product_of
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec


@attack(
    severity="pixels", budget="largest shift, px", family="spatial",
    source="Ding et al. 2023, the shift attack, over a whole grid", url="https://arxiv.org/abs/2306.07470",
    licence="a published definition; no code is used",
    citation="""@article{ding2023reviving,
  title={Reviving Shift Equivariance in Vision Transformers},
  author={Ding, Peijian and Soselia, Davit and Armstrong, Thomas and Su, Jiahao and Huang, Furong},
  journal={arXiv preprint arXiv:2306.07470},
  year={2023}
}""",
    tells=("value_shift_down", "value_shift_right"), passes="shift_passes",
    rules="No ball in a norm: the image is moved as a whole. Only images that are right when clean are attacked.",
)  # fmt: skip
def worst_shift(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, pixels: Whole = 2, border: Border = "circular", early: bool = True
) -> Crafted:
    """Tries every shift by whole pixels up to `pixels` down, up, right and left: an image is robust if none of them fools the model.

    pixels: 2 for the 5x5 shifts of the grid; 0 for the image alone. border: what enters: `circular`, what left on the other side; `zeros`,
    black; `edge`, the nearest pixel; `reflect`, the mirror image. early: a sample is done with at the first shift that fools; otherwise all
    are tried and the one of the largest margin is returned, for other models. The unshifted image comes first, then the nearest shifts, by
    the larger part, by the sum of both, row by row: the same order for every sample, so that the shift found is the nearest that fools.
    value_shift_down, value_shift_right: that shift in pixels; where none fools, the one of the largest margin of another class.
    """
    refuse_far(pixels, images.shape[2:], "attack 'worst_shift'")
    search = Search(model, images, labels, draws, early=early)
    best, ends = BestPlace(search, 2), (-pixels, pixels)
    shifts = nearest_first(ends, ends).to(images.device)
    try_places(search, shifts.expand(len(images), -1, -1), lambda rows, at: shifted(images[rows], at, border), best)
    return best.crafted(("value_shift_down", "value_shift_right"))


def shift_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A pass for each shift of the grid."""
    return Passes(forward=(2 * product_of(spec, "pixels") + 1) ** 2)
