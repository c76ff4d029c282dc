"""The background challenge: an object against every background there is, until one of them makes the answer wrong."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from PIL import Image
from torch import Tensor

from robustvit.errors import DataMissing, DataUnreadable, ModelError, few
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import of_levels
from robustvit.primitives.reading import Reading
from robustvit.spec.registry import analysis
from robustvit.spec.sample_order import order
from robustvit.spec.view import View

_WHITE = 128  # a mask's level from which a pixel belongs to the foreground
_WASTE = 8  # of so many rows that the model works on one may be padding


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
    rules="The authors': every foreground, also one that is wrong on its own picture, meets every background, also its own and those of its "
    "class. They print the share of foregrounds that fall; their table shows the share that stands.",
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
    """Puts the foreground of each image on one background after another until the answer, as the backgrounds' first Reading reads it, is wrong.

    masks: the images' foregrounds, by the same ids. backgrounds: pictures without objects, taken in evaluation order, which mixes their
    classes. count: only so many of them (default all); with fewer more foregrounds stand. Columns: value_robust, 1 where none of them flips
    the answer and 0 elsewhere; queries, how many were tried, the one that flips it among them. A model of another size than the pictures' is
    shown foreground, mask (nearest pixel) and background resized, then put together. Backgrounds that were met stay decoded while the data
    set lives, 150 kB each at 224 px.
    """
    view = _view(model, backgrounds)
    pairs = _Pairs(model, backgrounds.readings[0], images, labels, _foregrounds(masks, draws.ids, view).to(images.device))
    shown, places = _shown(backgrounds, view), order(backgrounds.ids)[:count]
    standing = torch.arange(len(images), device=images.device)
    tried = torch.full_like(labels, len(places))
    start = 0
    while start < len(places) and len(standing):
        some = places[start : start + _at_once(len(standing), model.tile)]
        wrong = pairs.wrong(standing, torch.from_numpy(shown.rows(backgrounds, some)).to(images.device))
        fell = wrong.any(dim=1)
        tried[standing[fell]] = start + 1 + wrong[fell].int().argmax(dim=1)
        standing = standing[~fell]
        start += len(some)
    robust = torch.zeros(len(images), device=images.device)
    robust[standing] = 1.0
    return {"value_robust": robust, "queries": tried}


@dataclass(frozen=True)
class _Pairs:
    """Foregrounds on backgrounds. foreground: (N, 1, H, W) bool, where an image stays what it is."""

    model: Classifier
    reading: Reading
    images: Tensor
    labels: Tensor
    foreground: Tensor

    def wrong(self, standing: Tensor, backgrounds: Tensor) -> Tensor:
        """(len(standing), K) bool: which of these images K backgrounds, (K, 3, H, W) levels, make wrong. The model sees full tiles of pairs."""
        each = len(standing)
        parts = torch.split(torch.arange(each * len(backgrounds), device=standing.device), self.model.tile)
        found = torch.cat([self._wrong(standing[part % each], backgrounds[part // each]) for part in parts])
        return found.view(len(backgrounds), each).T

    def _wrong(self, rows: Tensor, behind: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.model(torch.where(self.foreground[rows], self.images[rows], of_levels(behind)))
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(f"model '{self.model.card.label}' gives logits that are not finite numbers for a foreground on a background.")
        return self.reading.read(logits).argmax(dim=1) != self.labels[rows]


def _at_once(standing: int, tile: int) -> int:
    """The fewest backgrounds that fill the model's tiles, but for an eighth, with the foregrounds that stand."""
    return next(many for many in range(1, tile + 1) if _WASTE * (-standing * many % tile) <= standing * many)


def _view(model: Classifier, backgrounds: Data) -> View:
    """What a plan makes of the model's view for pictures cut to a size, as the images are that come here."""
    cut = traits(backgrounds).cut
    return model.view if cut is None else model.view.of_cut(cut)


def _foregrounds(masks: Data, ids: Sequence[str], view: View) -> Tensor:
    """(N, 1, H, W) bool. Raises DataMissing, with counts, where foregrounds have no mask."""
    place = {name: i for i, name in enumerate(masks.ids)}
    missing = [name for name in ids if name not in place]
    if missing:
        raise DataMissing(f"background_challenge: {len(missing)} of {len(ids)} foregrounds have no mask in '{masks.name}': {few(missing)}.")
    nearest = replace(view, interpolation="nearest")
    looked = [np.asarray(nearest.look(Image.fromarray(masks[place[name]].image)))[None, :, :, 0] for name in ids]
    return torch.from_numpy(np.stack(looked) >= _WHITE)


class _Shown:
    """A data set's pictures as a view shows them, decoded when first asked for. Rows not met take no memory."""

    def __init__(self, data: Data, view: View) -> None:
        self.view = view
        self._levels = np.empty((len(data), 3, *view.size), np.uint8)
        self._there = np.zeros(len(data), dtype=bool)

    def rows(self, data: Data, places: np.ndarray) -> np.ndarray:
        """(n, 3, H, W) uint8. Raises DataUnreadable naming the pictures that cannot be read."""
        failures = []
        for place in places[~self._there[places]].tolist():
            try:
                picture = self.view.look(Image.fromarray(data[place].image))
            except DataUnreadable as error:
                failures.append(str(error))
                continue
            self._levels[place] = np.asarray(picture).transpose(2, 0, 1)
            self._there[place] = True
        if failures:
            raise DataUnreadable(f"background_challenge: {len(failures)} backgrounds of '{data.name}' cannot be read: {few(failures)}.")
        found: np.ndarray = self._levels[places]
        return found


_SHOWN: weakref.WeakKeyDictionary[Data, _Shown] = weakref.WeakKeyDictionary()  # decoded once for all batches of a run


def _shown(data: Data, view: View) -> _Shown:
    known = _SHOWN.get(data)
    if known is None or known.view != view:
        known = _SHOWN[data] = _Shown(data, view)
    return known
