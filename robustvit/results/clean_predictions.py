"""What models said of the clean pictures, to be held against what they say of the same pictures changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from robustvit.records.cells import Asked, answer, asked
from robustvit.records.records import Question
from robustvit.records.store import Store
from robustvit.results.attack_outcomes import circumstances

COLUMN = "clean_pred"
_CHANGED = ("corruption", "attack")  # what shows the model changed pictures; a certificate asks another model, and an analysis measures


class CleanAnswers:
    """The answers of the `clean` cells of a store, read when first asked for and kept by what other cells share with them.

    models: whose, by label; default, all.
    """

    def __init__(self, store: Store, models: Iterable[str] | None = None) -> None:
        self._store = store
        self._models = None if models is None else list(models)
        self._cells: dict[str, Question] | None = None
        self._read: dict[str, pd.Series] = {}

    def joined(self, question: Question, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of a cell with the class that was answered of the clean picture in `clean_pred`, not a number where that is not known."""
        clean = self._beside(question)
        if clean is None:
            return rows
        return rows.assign(**{COLUMN: rows["sample"].map(self._answers(clean)).astype("float64")})

    def _beside(self, question: Question) -> Question | None:
        if question.scenario == "clean" or question.kind not in _CHANGED:
            return None
        if self._cells is None:
            self._cells = {place: one.question for one in asked(self._store, None, self._models) if (place := self._place(one))}
        return self._cells.get(_shared(self._told(question)))

    def _place(self, one: Asked) -> str:
        """What other cells share with a clean cell; nothing of any other."""
        told = self._told(one.question)
        return _shared(told) if one.question.scenario == "clean" and told else ""

    def _told(self, question: Question) -> Mapping[str, Any]:
        known = self._store.knows(question.cell)
        return self._store.describe(question.cell) if known else {}

    def _answers(self, clean: Question) -> pd.Series:
        if clean.cell not in self._read:
            rows = answer(self._store, clean, ["pred"]).rows
            self._read[clean.cell] = pd.Series(rows["pred"].to_numpy() if len(rows) else [], rows["sample"], dtype="float64")
        return self._read[clean.cell]


def _shared(told: Mapping[str, Any]) -> str:
    """The circumstances of a cell but for the storage that clean pictures do not go through."""
    return circumstances({key: value for key, value in told.items() if key != "storage"})
