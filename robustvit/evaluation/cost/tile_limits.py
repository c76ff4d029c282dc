"""Half the rows of a forward pass, again and again, where memory runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

from robustvit.errors import RobustvitError
from robustvit.evaluation.cost.tile_size import out_of_memory
from robustvit.primitives.classifier import Classifier

log = logging.getLogger(__name__)
T = TypeVar("T")


class TileLimits:
    """How often the tiles of each pipeline's models have been halved because memory ran out."""

    def __init__(self) -> None:
        self._halvings: dict[Hashable, int] = {}
        self._whole: WeakKeyDictionary[Classifier, int] = WeakKeyDictionary()

    def apply(self, pipeline: Hashable, *models: Classifier) -> None:
        """Gives models, and the Classifiers that they wrap, the tiles that they have in a pipeline.

        A model is known with its whole tile: that with which it is given first.
        """
        found = dict.fromkeys(one for model in models for one in model.modules() if isinstance(one, Classifier))
        whole = {one: self._whole.setdefault(one, one.tile) for one in found}  # all, before one configures those that it wraps
        for one, tile in whole.items():
            one.configure(tile=max(1, tile >> self._halvings.get(pipeline, 0)))

    def fitting(self, work: Callable[[], T], pipeline: Hashable, models: Callable[[], Sequence[Classifier]]) -> T:
        """The result of some work, done again with half of each tile wherever memory runs out.

        models: those that the work computes with, the pipeline's first. The tiles stay so for all that the pipeline computes afterwards,
        which is logged once for the work. Raises what the work raises: for lack of memory where every tile has one row, after which the
        tiles are as before.
        """
        self.apply(pipeline, *(given := models()))
        before, had = self._halvings.get(pipeline, 0), 0
        while True:
            try:
                found = work()
            except (RuntimeError, MemoryError, RobustvitError) as error:
                given = models()
                if not out_of_memory(error):
                    _report(given[0], had)
                    raise
                if all(one.tile == 1 for one in given):
                    self._halvings[pipeline] = before
                    self.apply(pipeline, *given)
                    raise
            else:
                _report(given[0], had)
                return found
            _free_memory()  # here, where no error holds the tensors of the work any more
            had = had or given[0].tile
            self._halvings[pipeline] = self._halvings.get(pipeline, 0) + 1
            self.apply(pipeline, *given)


def _report(model: Classifier, had: int) -> None:
    """Logs that a tile of `had` rows has fewer now; 0 where none was halved."""
    if had:
        log.warning("memory ran out on %s: a forward pass had %d rows and has %d now.", model.card.label, had, model.tile)


def _free_memory() -> None:
    """Frees tensors in reference cycles, and what the allocator of a CUDA device keeps of them."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
