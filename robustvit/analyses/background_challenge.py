"""The background challenge: puts each foreground on every background, until one makes the model misclassify it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from robustvit.errors import DataMissing, DataUnreadable, ModelError, few
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import bound_rows
from robustvit.primitives.passes import Passes
from robustvit.primitives.pixels import of_levels
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import analysis
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

_WHITE = 128  # a pixel belongs to the foreground from this level of its mask
_WASTE = 8  # one in so many rows of a batch may be padding


@analysis(
    family="backgrounds",
    source="Xiao, Engstrom, Ilyas and Madry 2021, Noise or Signal: The Role of Image Backgrounds in Object Recognition (ICLR), section 4",
    url="https://github.com/MadryLab/backgrounds_challenge",
    licence="a published definition; no code is used",
    citation="""@inproceedings{xiao2021noise,
  title={Noise or Signal: The Role of Image Backgrounds in Object Recognition},
  author={Xiao, Kai and Engstrom, Logan and Ilyas, Andrew and Madry, Aleksander},
  booktitle={International Conference on Learning Representations},
  year={2021}
}""",
    rules="The authors': every foreground, also one that is misclassified in its own image, is put on every background, also its own and "
    "those of its class. Their code prints the share of foregrounds that are fooled; their table shows the share that is robust.",
    passes="background_passes",
)
def background_challenge(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    draws: Draws,
    *,
    masks: Data,
    backgrounds: Data,
    count: Annotated[int, Ge(1)] | None = None,
) -> dict[str, Tensor]:
    """Puts the foreground of each image on one background after another until the prediction, by the backgrounds' first Reading, is wrong.

    masks: the images' foregrounds, by the same ids. backgrounds: images without objects, taken in evaluation order, which mixes their
    classes. count: only so many of them (default all); with fewer, more foregrounds are robust. Columns: value_robust, 1 where no
    background changes the prediction to a wrong one and 0 elsewhere; queries, how many were tried, the one that fools the model included.
    For a model of another size than the images', foreground, mask (nearest pixel) and background are resized before they are put
    together. Backgrounds stay decoded in memory while the data set lives, 150 kB each at 224 px.
    """
    view = _view(model, backgrounds)
    pairs = _Pairs(model, backgrounds.readings[0], images, labels, _foregrounds(masks, draws.ids, view).to(images.device))
    decoded, places = _decoded(backgrounds, view), order(backgrounds.ids)[:count]
    robust_rows = torch.arange(len(images), device=images.device)
    queries = torch.full_like(labels, len(places))
    start = 0
    while start < len(places) and len(robust_rows):
        some = places[start : start + _at_once(len(robust_rows), model.tile)]
        wrong = pairs.misclassified(robust_rows, torch.from_numpy(decoded.rows(backgrounds, some)).to(images.device))
        fooled = wrong.any(dim=1)
        queries[robust_rows[fooled]] = start + 1 + wrong[fooled].int().argmax(dim=1)
        robust_rows = robust_rows[~fooled]
        start += len(some)
    robust = torch.zeros(len(images), device=images.device)
    robust[robust_rows] = 1.0
    return {"value_robust": robust, "queries": queries}


@dataclass(frozen=True)
class _Pairs:
    """Predictions on pairs of a foreground and a background. foreground: (N, 1, H, W) bool, where the pixels are the image's own."""

    model: Classifier
    reading: Reading
    images: Tensor
    labels: Tensor
    foreground: Tensor

    def misclassified(self, rows: Tensor, backgrounds: Tensor) -> Tensor:
        """(n, K) bool: whether the foregrounds of n images are misclassified on each of K backgrounds, (K, 3, H, W) levels."""
        each = len(rows)
        parts = torch.split(torch.arange(each * len(backgrounds), device=rows.device), self.model.tile)
        found = torch.cat([self._wrong(rows[part % each], backgrounds[part // each]) for part in parts])
        return found.view(len(backgrounds), each).T

    def _wrong(self, rows: Tensor, behind: Tensor) -> Tensor:
        with torch.no_grad():
            logits = bound_rows(self.model, rows)(torch.where(self.foreground[rows], self.images[rows], of_levels(behind)))
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(f"model '{self.model.card.label}' gives logits that are not finite numbers for a foreground on a background.")
        return self.reading.read(logits).argmax(dim=1) != self.labels[rows]


def _at_once(rows: int, tile: int) -> int:
    """The fewest backgrounds that fill the model's tiles, but for an eighth, with so many foregrounds."""
    return next(many for many in range(1, tile + 1) if _WASTE * (-rows * many % tile) <= rows * many)


def _view(model: Classifier, backgrounds: Data) -> View:
    """The view of the images that the analysis receives: the model's, for data that are cropped already."""
    cut = traits(backgrounds).cut
    return model.view if cut is None else model.view.for_precropped(cut)


def _foregrounds(masks: Data, ids: Sequence[str], view: View) -> Tensor:
    """(N, 1, H, W) bool. Raises DataMissing, with counts, where foregrounds have no mask."""
    place = {name: i for i, name in enumerate(masks.ids)}
    missing = [name for name in ids if name not in place]
    if missing:
        raise DataMissing(f"background_challenge: {len(missing)} of {len(ids)} foregrounds have no mask in '{masks.name}': {few(missing)}.")
    nearest = replace(view, interpolation="nearest")
    levels = [np.asarray(nearest.apply(Image.fromarray(masks[place[name]].image)))[None, :, :, 0] for name in ids]
    return torch.from_numpy(np.stack(levels) >= _WHITE)


class _Decoded:
    """A data set's images after a view, decoded on first use. Rows that are not used take no memory."""

    def __init__(self, data: Data, view: View) -> None:
        self.view = view
        self._levels = np.empty((len(data), 3, *view.size), np.uint8)
        self._present = np.zeros(len(data), dtype=bool)

    def rows(self, data: Data, places: np.ndarray) -> np.ndarray:
        """(n, 3, H, W) uint8. Raises DataUnreadable naming the images that cannot be read."""
        failures = []
        for place in places[~self._present[places]].tolist():
            try:
                image = self.view.apply(Image.fromarray(data[place].image), data.ids[place])
            except DataUnreadable as error:
                failures.append(str(error))
                continue
            self._levels[place] = np.asarray(image).transpose(2, 0, 1)
            self._present[place] = True
        if failures:
            raise DataUnreadable(f"background_challenge: {len(failures)} backgrounds of '{data.name}' cannot be read: {few(failures)}.")
        return np.asarray(self._levels[places])


_DECODED: weakref.WeakKeyDictionary[Data, _Decoded] = weakref.WeakKeyDictionary()  # decoded once for all batches of a run


def _decoded(data: Data, view: View) -> _Decoded:
    cached = _DECODED.get(data)
    if cached is None or cached.view != view:
        cached = _DECODED[data] = _Decoded(data, view)
    return cached


def background_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A prediction for every background, at most: a foreground that is fooled is done with."""
    count, every = spec.get("count"), len(plugins["backgrounds"])
    return Passes(forward=min(count, every) if isinstance(count, int) else every, at_most=True)
