"""Attacks that try moved images of a sample one after the other, until one fools the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from robustvit.attacks.losses import margin
from robustvit.primitives.attack_search import Crafted, Search

Moved: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Rows (n,) of the samples and a place (n, D) of each, as the attack has places → their moved images, (n, 3, H, W)."""

CITATION = """@inproceedings{engstrom2019exploring,
  title={Exploring the Landscape of Spatial Robustness},
  author={Engstrom, Logan and Tran, Brandon and Tsipras, Dimitris and Schmidt, Ludwig and Madry, Aleksander},
  booktitle={International Conference on Machine Learning},
  year={2019}
}"""


class BestPlace:
    """Keeps of each sample the place of the largest margin of another class over the label, which is above 0 where the model is fooled."""

    def __init__(self, search: Search, size: int) -> None:
        device = search.images.device
        self.search = search
        self.margin = torch.full((len(search.images),), -torch.inf, device=device)
        self.place = torch.full((len(search.images), size), torch.nan, device=device)

    def update(self, rows: Tensor, pixels: Tensor, places: Tensor, logits: Tensor) -> None:
        """Records images (n, 3, H, W) at places (n, D) with their logits, after they were queried of samples that were active."""
        found = margin(logits, self.search.labels[rows]).float()
        better = (found > self.margin[rows]) | ~self.search.is_active(rows)
        self.margin[rows[better]], self.place[rows[better]] = found[better], places[better].to(self.place)
        self.search.keep_best(rows[better], pixels[better])

    def crafted(self, names: Sequence[str]) -> Crafted:
        """The outcome of the search, with the parts of the places as columns of these names."""
        found = self.search.outcome()
        found.columns |= {name: self.place[:, index] for index, name in enumerate(names)}
        return found


def try_places(search: Search, places: Tensor, moved: Moved, best: BestPlace) -> None:
    """Queries the places of each sample, (N, K, D), in their order; a sample is done with as soon as one fools the model."""
    for turn in range(places.shape[1]):
        for rows in torch.split(search.active, search.model.tile):
            at = places[rows, turn]
            pixels = moved(rows, at)
            best.update(rows, pixels, at, search.query(rows, pixels))
