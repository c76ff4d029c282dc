"""Whether a model's prediction stays the same where the image is shifted, by the conventions of the papers that ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustvit.errors import BadParameter, DataMissing, few
from robustvit.primitives.batch import NO_CLASS, Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.borders import Border
from robustvit.primitives.geometry.whole_shifts import all_shifts, random_shifts, refuse_far, shifted
from robustvit.primitives.inference.keyed import bound_rows
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.pixels import pixels
from robustvit.spec.registry import analysis
from robustvit.spec.shift_conventions import CROP_MARGIN, ShiftConvention, shift_ranges
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

_CITATION = """@article{ding2023reviving,
  title={Reviving Shift Equivariance in Vision Transformers},
  author={Ding, Peijian and Soselia, Davit and Armstrong, Thomas and Su, Jiahao and Huang, Furong},
  journal={arXiv preprint arXiv:2306.07470},
  year={2023}
}
@inproceedings{chaman2021truly,
  title={Truly Shift-Invariant Convolutional Neural Networks},
  author={Chaman, Anadi and Dokmani{\\'c}, Ivan},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2021}
}
@inproceedings{zhang2019making,
  title={Making Convolutional Networks Shift-Invariant Again},
  author={Zhang, Richard},
  booktitle={International Conference on Machine Learning},
  year={2019}
}"""
_DIAGONAL = tuple(range(-5, 5))

Shown: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Rows (n,) of the samples and a shift (n, 2) of each → what the model is shown of them, (n, 3, H, W)."""


@analysis(
    family="shift", source="Ding et al. 2023 (circ15); Chaman and Dokmanić 2021 (circ32); Zhang 2019 (crop32)",
    url="https://arxiv.org/abs/2306.07470", licence="published definitions; no code is used", citation=_CITATION, reads_labels=True,
    passes="consistency_passes",
    rules="Shifts are drawn for each image, the papers' code draws them for a batch. Predictions are among the data's own classes.",
)  # fmt: skip
def shift_consistency(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, convention: ShiftConvention = "circ15", pairs: Count = 5, grid: bool = False, larger: Data | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Agreement of the predictions of an image under two random shifts, or under every shift of a convention.

    convention: `circ15`, whole shifts from 0 to 14 px down and to the right on a torus; `circ32`, from −32 to 31 px on a torus; `circular`,
    all shifts on a torus; `crop32`, windows of the model's size at offsets from 0 to 31 px in an image 32 px larger, where content enters
    that was there. pairs: how many pairs of shifts of each image are compared, each shift drawn on its own; not used with `grid`. grid:
    every shift in place of pairs. larger: for crop32 the data that the images are of, from which they are decoded once more, by their ids;
    where the model's view resizes to less than its size and 32 px, to that, so that content may be larger than in the clean image.
    Columns: value_shift_consistency, the share of pairs that agree; with `grid` the probability that two shifts drawn from all of them do,
    which is what pairs estimate. value_shifted_right, the share of shifted images that are classified correctly; NaN without a label. With
    `grid`, too, value_shift_map, for every shift, row by row, 1 where the prediction is that of the unshifted image (crop32: of the window
    in the middle); value_unshifted_agreement, its mean without the unshifted image; value_all_agree, 1 where all of them agree.
    """
    height, width = images.shape[2:]
    ranges = shift_ranges(convention, height, width)
    shown = _windows(_enlarged(model, larger, draws.ids), height, width) if convention == "crop32" else _on_torus(images)
    if not grid:
        shifts = random_shifts(draws.at("shifts"), 2 * pairs, ranges.down, ranges.right)
        found = predictions(model, shown, shifts)
        agreed = found[:, 0::2] == found[:, 1::2]
        return {"value_shift_consistency": agreed.float().mean(dim=1), "value_shifted_right": _right(found, labels)}
    every = all_shifts(ranges.down, ranges.right).to(images.device)
    found = predictions(model, shown, every.expand(len(images), -1, -1))
    still = int((every == ranges.still).all(dim=1).nonzero()[0])
    alike = found == found[:, still : still + 1]
    return {
        "value_shift_consistency": _chance_of_agreement(found), "value_shifted_right": _right(found, labels),
        "value_unshifted_agreement": (alike.sum(dim=1) - 1) / max(len(every) - 1, 1), "value_all_agree": alike.all(dim=1).float(),
        "value_shift_map": alike.float(),
    }  # fmt: skip


@analysis(
    family="shift", source="Ding et al. 2023, the stability of logits", url="https://arxiv.org/abs/2306.07470",
    licence="a published definition; no code is used", citation=_CITATION, reads_labels=True, passes="diagonal_passes",
    rules="The variance over shifts is that of the population (divided by their number).",
)  # fmt: skip
def diagonal_shifts(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, border: Border = "circular") -> dict[str, Tensor]:
    """Variance of the logit of an image's own class over the ten diagonal shifts from −5 to 4 px.

    border: what enters. Column: value_logit_variance, in squared logits of the data's classes, NaN without a label. It depends on the scale
    of a model's logits: compare a model with itself.
    """
    refuse_far(max(-min(_DIAGONAL), max(_DIAGONAL)), images.shape[2:], "analysis 'diagonal_shifts'")
    shifts = torch.tensor([(by, by) for by in _DIAGONAL], device=images.device).expand(len(images), -1, -1)
    own = labels.clamp_min(0)
    logits = _in_tiles(
        model,
        lambda rows, at: shifted(_rows_of(images, rows), at, border),
        shifts,
        lambda found, rows: found.gather(1, own[rows, None])[:, 0],
    )
    variance = logits.double().var(dim=1, correction=0)
    return {"value_logit_variance": variance.where(labels != NO_CLASS, torch.nan).float()}


def predictions(model: Classifier, shown: Shown, shifts: Tensor) -> Tensor:
    """(N, S) int64: the class predicted for each sample under each of its shifts, (N, S, 2)."""
    return _in_tiles(model, shown, shifts, lambda logits, rows: logits.argmax(dim=1))


def _in_tiles(model: Classifier, shown: Shown, shifts: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N, S): a value of the logits of each sample under each shift; all tiles of the model but the last are full."""
    count, each = shifts.shape[:2]
    if not count:
        return shifts.new_zeros(0, each)
    found = []
    for part in torch.split(torch.arange(count * each, device=shifts.device), model.tile):
        rows = part % count
        with torch.no_grad():
            found.append(of(bound_rows(model, rows)(shown(rows, shifts[rows, part // count])), rows))
    return torch.cat(found).view(each, count).T


def _on_torus(images: Tensor) -> Shown:
    return lambda rows, at: shifted(_rows_of(images, rows), at, "circular")


def _rows_of(images: Tensor, rows: Tensor) -> Tensor:
    """Some images, not copied where they are neighbours."""
    first, count = int(rows[0]), len(rows)
    neighbours = torch.equal(rows, torch.arange(first, first + count, device=rows.device))
    return images[first : first + count] if neighbours else images[rows]


def _windows(frames: Tensor, height: int, width: int) -> Shown:
    def shown(rows: Tensor, at: Tensor) -> Tensor:
        places = zip(rows.tolist(), at.tolist(), strict=True)
        return torch.stack([frames[row, :, top : top + height, left : left + width] for row, (top, left) in places])

    return shown


def _right(found: Tensor, labels: Tensor) -> Tensor:
    return (found == labels[:, None]).float().mean(dim=1).where(labels != NO_CLASS, torch.nan)


def _chance_of_agreement(found: Tensor) -> Tensor:
    """(N,) float32: the probability that two of a row's entries, drawn independently, are equal."""
    classes = int(found.max()) + 1 if found.numel() else 1
    counts = torch.zeros(len(found), classes, dtype=torch.float64, device=found.device)
    counts.scatter_add_(1, found, torch.ones_like(found, dtype=torch.float64))
    return (counts / max(found.shape[1], 1)).square().sum(dim=1).float()


def _enlarged(model: Classifier, larger: Data | None, ids: Sequence[str]) -> Tensor:
    """(N, 3, H + 32, W + 32): the images as crop32 has them."""
    if larger is None:
        raise BadParameter("shift_consistency: crop32 takes windows of an image 32 px larger; name the data again with larger: DATA.")
    view, place = _larger_view(model, larger), {name: i for i, name in enumerate(larger.ids)}
    missing = [name for name in ids if name not in place]
    if missing:
        raise DataMissing(f"shift_consistency: {len(missing)} of {len(ids)} images are not in '{larger.name}' (larger): {few(missing)}.")
    levels = [np.asarray(view.apply(Image.fromarray(larger[place[name]].image), name)) for name in ids]
    return pixels(np.stack(levels), model.device)


def _larger_view(model: Classifier, data: Data) -> View:
    """The model's view with 32 px more on each side."""
    cut = traits(data).cut
    view = model.view if cut is None else model.view.for_precropped(cut)
    height, width = (side + CROP_MARGIN for side in view.size)
    if view.crop == "none" or (view.resize is None and view.crop == "center"):
        raise BadParameter(f"shift_consistency: crop32 needs images 32 px larger than {view}; those of '{data.name}' are cut to its size.")
    resize = view.resize if view.resize is None else max(view.resize, min(height, width))
    return replace(view, size=(height, width), resize=resize, share=None)


def consistency_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Two passes for each pair, or one for each shift."""
    if spec.get("grid") is not True:
        return Passes(forward=2 * product_of(spec, "pairs"))
    rows, columns = shift_ranges(spec.get("convention"), *model.size).shape  # type: ignore[arg-type]
    return Passes(forward=rows * columns)


def diagonal_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One pass for each shift."""
    return Passes(forward=len(_DIAGONAL))
