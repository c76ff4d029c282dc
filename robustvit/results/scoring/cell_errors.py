"""Which samples of cells are misclassified: kept beside the scores of their cells, a bit a sample, and read from there."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.results.scoring.score_files import keep_scores, read_scores


class CellErrors(NamedTuple):
    """Which samples of a cell are misclassified: (n,) bool, and their ids. key: the digest of the ids in this order."""

    samples: pd.Index
    wrong: np.ndarray
    key: str


def packed_errors(errors: Mapping[str, CellErrors]) -> dict[str, list[str]]:
    """Errors by cell as JSON has them, the ids by key; these are kept in a file of their own, once for all models."""
    for key, samples in {one.key: one.samples for one in errors.values()}.items():
        if _samples(key) is None:
            keep_scores(f"samples-{key}", list(samples))
            _samples.cache_clear()
    return {cell: [one.key, base64.b64encode(np.packbits(one.wrong).tobytes()).decode("ascii")] for cell, one in errors.items()}


def unpacked_errors(packed: Mapping[str, list[str]]) -> dict[str, CellErrors]:
    """What `packed_errors` made, without the cells whose ids are kept no more."""
    found = {}
    for cell, (key, bits) in packed.items():
        samples = _samples(key)
        if samples is not None:
            wrong = np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=len(samples)).astype(np.bool_)
            found[cell] = CellErrors(samples, wrong, key)
    return found


@functools.lru_cache(maxsize=64)
def _samples(key: str) -> pd.Index | None:
    """Kept ids, the same object for the same key, so that equal ones are known to be."""
    found = read_scores(f"samples-{key}")
    return None if found is None else pd.Index(found)
