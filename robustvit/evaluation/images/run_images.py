"""The images of a run's samples through its views, compared with those that the store's rows were computed on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robustvit.evaluation.datasets import Samples
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.records.sample_digests import SampleDigests
from robustvit.records.store import Store
from robustvit.spec.sample_order import SHARD
from robustvit.spec.view import View


class RunImages:
    """What was decoded for each data set and view is kept. announce: called with what is being done."""

    def __init__(self, store: Store, workers: int, announce: Callable[[str], None]) -> None:
        self.store, self.workers, self.announce = store, workers, announce
        self._images: dict[tuple[str, View], ImageCache] = {}
        self._digests: dict[str, SampleDigests] = {}

    def decode(self, samples: Samples, view: View) -> None:
        """Decodes the images of samples through a view, all of them at once, where they were not decoded before.

        Raises DataUnreadable where they cannot be read, or are not those that the store's rows were computed on.
        """
        cache, asked = self._cache(samples, view), samples.asked
        cache.ensure(asked, progress=lambda done, total: self.announce(f"reading images, {done} of {total}"))
        if not cache.fleeting:
            self._compare(samples, np.arange(asked), cache.digests(asked))

    def digests(self, samples: Samples, view: View) -> np.ndarray:
        """(n, 16) uint8: the digests of the images that are evaluated; none of data that is fleeting."""
        cache = self._cache(samples, view)
        cache.ensure(samples.asked)
        return np.zeros((0, 16), np.uint8) if cache.fleeting else cache.digests(samples.asked)

    def images(self, samples: Samples, view: View, ranks: np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8: the images at consecutive ranks in evaluation order, through a view. Raises as `decode` does."""
        found = self._cache(samples, view).rows_with_digests(ranks)
        self._compare(samples, ranks, found.digests)
        return found.images

    @property
    def damaged_digests(self) -> list[Path]:
        """The tables of digests that were damaged and are set aside."""
        return [path for known in self._digests.values() for path in known.damaged]

    def _cache(self, samples: Samples, view: View) -> ImageCache:
        key = (samples.data.fingerprint, view)
        if key not in self._images:
            self._images[key] = ImageCache(samples.data, view, workers=self.workers)
        return self._images[key]

    def _compare(self, samples: Samples, ranks: np.ndarray, digests: np.ndarray) -> None:
        """Compares the digests of images at consecutive ranks with those in the store, and keeps them there."""
        data, positions = samples.data, samples.positions
        known = self._digests.setdefault(data.fingerprint, SampleDigests(self.store.path, data.fingerprint, data.name))
        for shard in np.unique(ranks // SHARD).tolist():
            here = ranks // SHARD == shard
            ids = [data.ids[position] for position in positions[ranks[here]].tolist()]
            known.keep(shard, int(ranks[here][0]) % SHARD, ids, digests[here])
