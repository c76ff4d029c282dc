"""The models whose weights ship with robustvit: `demo`, and the zoo of tiny ViTs `demo/NAME` on the same digits.

`weights/zoo.json` lists them; `weights/NAME.md` is the card of each. `reports/zoo.py` trains the zoo and writes its files, rows and cards.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustvit.models.checkpoint import checkpoint_model, read_about
from robustvit.primitives.classifier import Classifier
from robustvit.spec.registry import model

WEIGHTS = Path(__file__).parent / "weights"
_SOURCE = "robustvit train on the training split of digits"


@model(table="weights/zoo.json", source=_SOURCE, licence="Apache-2.0")
def bundled(name: str) -> Classifier:
    """The model of that name in the table, with the notes in its file."""
    path = WEIGHTS / shipped_models()[name]["file"]
    loaded, about = checkpoint_model(path=str(path)), read_about(path)
    notes = {**loaded.card.notes, "accuracy": about.accuracy, "command": about.command}
    loaded.card = replace(loaded.card, label=name, weights="bundled", source=_SOURCE, licence="Apache-2.0", notes=notes)
    return loaded


@functools.cache
def shipped_models() -> Mapping[str, Mapping[str, Any]]:
    """The rows of the table by name: file, docstring and, of the zoo, what its cards say."""
    found: dict[str, dict[str, Any]] = json.loads((WEIGHTS / "zoo.json").read_text(encoding="utf-8"))
    return found
