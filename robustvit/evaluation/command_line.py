"""The command line of a run that was made from Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.records.store import Store
from robustvit.spec.spec import Spec
from robustvit.spec.suite import Suite


def command_line(suite: Suite, models: Sequence[str | Spec | Classifier], data: str | Data | None, settings: Settings, store: Store) -> str:
    """The `robustvit run …` that makes the same request."""
    words = ["robustvit", "run"]
    for model in models:
        words += ["--model", model.card.label if isinstance(model, Classifier) else str(model)]
    words += ["--suite", suite.name]
    if data is not None:
        words += ["--data", data if isinstance(data, str) else data.name]
    options = (
        ("--data-dir", settings.data_dir), ("--limit", settings.limit), ("--seed", settings.seed), ("--img-size", settings.view.img_size),
        ("--crop-pct", settings.view.crop_pct), ("--interpolation", settings.view.interpolation),
        ("--storage", None if settings.storage is None else _storage(settings.storage)),
        ("--precision", None if settings.precision == "float32" else settings.precision), ("--batch-size", settings.batch_size),
        ("--store", store.path if store.mirror is None else store.place),
    )  # fmt: skip
    for flag, value in options:
        if value is not None:
            words += [flag, str(value)]
    words += [word for one in settings.surrogates for word in ("--surrogate", one.card.label if isinstance(one, Classifier) else str(one))]
    words += ["--allow-code"] if suite.code else []
    return shlex.join(words)


def _storage(storage: Spec) -> str:
    """A storage as the command line takes it."""
    return f"jpeg{storage.get('quality')}" if storage.name == "jpeg" else storage.name
