"""The batches of an epoch: which samples each holds, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels, through_view
from robustvit.spec.view import View
from robustvit.training.recipe import Recipe


def batches_of_epoch(data: Data, recipe: Recipe, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """The positions of each batch of an epoch. Samples that do not fill a last batch are left out of this epoch."""
    order = Draws(seed, f"epoch {epoch}", data.ids).words(1)[:, 0].argsort(stable=True).numpy()
    for start in range(0, max(1, len(order) - recipe.batch_size + 1), recipe.batch_size):
        yield order[start : start + recipe.batch_size]


def load_batch(data: Data, rows: np.ndarray, view: View, device: torch.device | str) -> Batch:
    """Loads the samples at some positions as a batch, preprocessed by the view."""
    samples = [data[int(row)] for row in rows]
    images = np.stack([through_view(view, sample.image, sample.id) for sample in samples])
    labels = torch.tensor([sample.label for sample in samples], device=device)
    return Batch(pixels(images, device), labels, tuple(sample.id for sample in samples), classes=len(data.classes))
