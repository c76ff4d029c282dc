"""Readouts of features: which labelled samples they are learned of, the features of these, and where they are put."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.primitives.batch import NO_CLASS, Batch, Data
from robustvit.primitives.class_lookup import named_classes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.surgery.heads import Pool, feature_model, head_or_none, pooled_by, without_heads
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed, replace_layer

LoadImages: TypeAlias = Callable[[Data, np.ndarray], Batch]
_ROWS = 512  # images that are loaded at once


class Labelled(NamedTuple):
    """features: (n, D); labels: (n,) int64, each of `classes`."""

    features: Tensor
    labels: Tensor
    classes: int


def labelled_features(model: Classifier, load_batch: LoadImages, draws: Draws, data: Data, shots: int | None, pool: Pool) -> Labelled:
    """The features of the labelled samples of a data set, of so many that are drawn of each class, or of all.

    Raises BadParameter where a class has fewer.
    """
    chosen = chosen_samples(data, shots, draws)
    featured = feature_model(model, pool)
    parts = [load_batch(data, rows) for rows in np.array_split(chosen, -(-len(chosen) // _ROWS))]
    with torch.no_grad():
        features = torch.cat([featured(part.images) for part in parts])
    return Labelled(features, torch.cat([part.labels for part in parts]), len(data.classes))


def chosen_samples(data: Data, shots: int | None, draws: Draws) -> np.ndarray:
    """The positions of so many samples of each class, drawn, or of all that have a class."""
    labels = np.asarray(data.labels)
    if shots is None:
        return np.flatnonzero(labels != NO_CLASS)
    found = []
    for label, name in enumerate(data.classes):
        own = np.flatnonzero(labels == label)
        if len(own) < shots:
            raise BadParameter(f"shots is {shots}, and data '{data.name}' has {len(own)} samples of class '{name}'.")
        found.append(own[draws.at(label).permutation(len(own))[0].cpu().numpy()[:shots]])
    return np.concatenate(found)


def read_out(model: Classifier, layer: nn.Module, pool: Pool, data: Data | None) -> Classifier:
    """The model with a layer from features to logits in the place of its head, or behind it where it has none of its own or two.

    data: whose classes the logits are; None for those that the card names.
    """

    def change(module: nn.Module) -> nn.Module:
        module = pooled_by(module, pool)
        if (place := head_or_none(module)) is None:
            return nn.Sequential(without_heads(model, module), layer)
        replace_layer(module, place, layer)
        return module

    with refusing("a readout of features", model):
        made = changed(model, change)
    made.card = replace(made.card, headless=False, classes=model.card.classes if data is None else named_classes(data.classes))
    return made
