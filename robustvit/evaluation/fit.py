"""Fits what a scenario needs of other samples, such as a universal perturbation: once for a cell, before its shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from robustvit.errors import RobustvitError
from robustvit.evaluation.evaluate import batch_of, through_reading
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import parameters, stream
from robustvit.spec import registry
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec
from robustvit.spec.view import View


def fit(model: Classifier, view: View, scenario: Spec, seed: int, plugins: Mapping[str, Any], workers: int = 0) -> dict[str, np.ndarray]:
    """The artifact that a scenario's `fit` function makes: arrays by name.

    model: with its transforms. scenario: bound. plugins: what its plug-in parameters were resolved to. The model predicts through the
    first Reading of the data, where the scenario nests exactly one data set. Raises RobustvitError where the function returns something
    else than tensors by name.
    """
    entry = registry.scenario_entry(scenario.name)
    draws = Draws(seed, f"{stream(scenario)}/learn", ["learn"], model.device)
    caches: dict[str, ImageCache] = {}

    def load_batch(data: Data, positions: np.ndarray) -> Batch:
        cache = caches.setdefault(data.fingerprint, ImageCache(data, view, workers=workers))
        rank = np.empty(len(data), dtype=np.int64)
        rank[order(data.ids)] = np.arange(len(data))
        return batch_of(data, cache.rows(rank[positions]), positions, model.device)

    nested = [one for one in plugins.values() if isinstance(one, Data)]
    host = through_reading(model, nested[0]) if len(nested) == 1 else model
    made = entry.load_beside(entry.fit)(host, load_batch, draws, **parameters(scenario, plugins))
    if not isinstance(made, dict) or not all(isinstance(value, Tensor) for value in made.values()):
        raise RobustvitError(f"'{entry.fit}' of '{scenario.name}' must return tensors by name; it returned a {type(made).__name__}.")
    return {str(name): value.detach().cpu().contiguous().numpy() for name, value in made.items()}
