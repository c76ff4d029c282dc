"""The names of a model's classes, in the order of its logits, where the model itself has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def classes_of_labels(labels: Any) -> tuple[str, ...]:
    """The names of a list, or of a mapping from index to name such as transformers' id2label; none where an index has no name."""
    if isinstance(labels, Mapping):
        by_index = {int(key): name for key, name in labels.items() if str(key).isdecimal()}
        labels = [by_index.get(i) for i in range(len(labels))]
    whole = isinstance(labels, list | tuple) and all(isinstance(name, str) for name in labels)
    return tuple(labels) if whole else ()


def classes_of_module(built: nn.Module) -> tuple[str, ...]:
    """Those that a module has in an attribute `classes`, in transformers' `config.id2label`, or in timm's `label_names`."""
    config: Any = getattr(built, "pretrained_cfg", None)
    found = (
        getattr(built, "classes", None),
        getattr(getattr(built, "config", None), "id2label", None),
        config.get("label_names") if isinstance(config, Mapping) else None,
    )
    return next((names for names in map(classes_of_labels, found) if names), ())
