"""Data and batches for calibration in tests: fixed noise, read straight from memory."""

from __future__ import annotations

import numpy as np
import torch

from robustvit.primitives.batch import Batch, Sample
from robustvit.primitives.draws import Draws
from robustvit.primitives.reading import Reading
from robustvit.spec.sample_order import order


class Noise:
    """Data of uniform noise, of which some images are darker than others."""

    name, fingerprint, source = "noise", "0" * 16, "generated"
    classes, readings = ("a",), (Reading("direct", 1),)

    def __init__(self, count: int = 40) -> None:
        self.ids = [f"noise/{index:03d}" for index in range(count)]
        self.labels = np.zeros(count, dtype=np.int64)
        pixels = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(7))
        self.pixels = pixels * torch.linspace(0.2, 1.0, count)[:, None, None, None]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("calibration reads batches, not samples")


def load_batch(data: Noise, positions: np.ndarray) -> Batch:
    return Batch(data.pixels[positions], torch.zeros(len(positions), dtype=torch.int64), tuple(data.ids[at] for at in positions))


def first(data: Noise, samples: int) -> torch.Tensor:
    """The pixels that a calibration of so many samples sees."""
    return data.pixels[order(data.ids)[:samples]]


DRAWS = Draws(0, "calibration", ())
