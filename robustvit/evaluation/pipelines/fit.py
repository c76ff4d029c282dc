"""Fits what a scenario or a transform needs of other samples, such as a universal perturbation or the ranges of activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from robustvit.errors import RobustvitError, with_article
from robustvit.evaluation.class_names import reads
from robustvit.evaluation.evaluate import through_reading
from robustvit.evaluation.images.batches import batch_of
from robustvit.evaluation.images.image_cache import ImageCache
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import parameters, stream, takes_headless
from robustvit.primitives.scenarios.attack import own_labels
from robustvit.primitives.surgery.hosts import check_host
from robustvit.primitives.surgery.pipelines import DIGESTS
from robustvit.spec import registry
from robustvit.spec.sample_order import order
from robustvit.spec.spec import Spec
from robustvit.spec.view import View


def fit(
    model: Classifier, view: View, spec: Spec, seed: int, plugins: Mapping[str, Any], workers: int = 0, *, predicted: bool = False
) -> dict[str, np.ndarray]:  # fmt: skip
    """The artifact that the `fit` function of a scenario or transform makes: arrays by name.

    model: with its transforms, or with those before the one that is fitted. view: of the nested data's images. spec: bound. plugins: what
    its plug-in parameters were resolved to. predicted: the model's own predictions stand for the labels. The model predicts through the
    first Reading of the data, where exactly one data set is nested, the head is not what is made of it, and labels are read. What a
    transform or an attack learned has the digests of the images that it was shown under DIGESTS. Raises RobustvitError where the function
    returns something else than tensors by name, HostRefused for a model that a transform does not take.
    """
    entry = registry.lookup(spec.kind, spec.name)
    if entry.kind == "transform":
        check_host(spec.name, entry.hosts, model)
    draws = Draws(seed, f"{stream(spec)}/learn", ["learn"], model.device)
    caches: dict[str, ImageCache] = {}
    shown: dict[bytes, None] = {}

    def load_batch(data: Data, positions: np.ndarray) -> Batch:
        cache = caches.setdefault(data.fingerprint, ImageCache(data, view, workers=workers))
        rank = np.empty(len(data), dtype=np.int64)
        rank[order(data.ids)] = np.arange(len(data))
        found = cache.rows_with_digests(rank[positions])
        shown.update(dict.fromkeys(digest.tobytes() for digest in found.digests))
        batch = batch_of(data, found.images, positions, model.device)
        return own_labels(host, batch, Draws(seed, draws.stream, batch.ids, model.device)) if predicted else batch

    nested = [one for one in plugins.values() if isinstance(one, Data)]
    any_outputs = predicted or entry.label_free or takes_headless(spec)
    read = len(nested) == 1 and not entry.head and not (any_outputs and not reads(model, nested[0]))
    host = through_reading(model, nested[0]) if read else model
    made = entry.load_beside(entry.fit)(host, load_batch, draws, **parameters(spec, plugins))
    if not isinstance(made, dict) or not all(isinstance(value, Tensor) for value in made.values()):
        raise RobustvitError(
            f"'{entry.fit}' of '{spec.name}' must return tensors by name; it returned {with_article(type(made).__name__)}."
        )
    arrays = {str(name): value.detach().cpu().contiguous().numpy() for name, value in made.items()}
    seen = np.frombuffer(b"".join(sorted(shown)), np.uint8).reshape(len(shown), 16).copy()
    return arrays | {DIGESTS: seen} if shown and entry.kind in ("transform", "attack") else arrays
