"""Images that attacks on features may be fitted to, apart from those that they are given."""

from __future__ import annotations

import numpy as np
import torch
from vits import SIDE

from robustvit.data.formats.arrays import ArrayDataset
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.reading import Reading


def others() -> ArrayDataset:
    """Seven images that are not attacked."""
    pixels = (255 * np.random.default_rng(0).random((7, SIDE, SIDE, 3))).astype(np.uint8)
    names = tuple(f"other {i}" for i in range(7))
    return ArrayDataset("others", pixels.__getitem__, names, np.zeros(7, np.int64), ("a", "b"), (Reading("all", 2),), "f")


def loaded(data: Data, positions: np.ndarray) -> Batch:
    """The loader that a fit is given, of `others` alone."""
    assert data.name == "others"
    pixels = torch.stack([torch.from_numpy(data[i].image).permute(2, 0, 1) / 255 for i in positions])
    return Batch(pixels, torch.zeros(len(positions), dtype=torch.int64), tuple(data.ids[i] for i in positions))
