"""The class that a model predicts for each clean image, to compare with its prediction on the same image perturbed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import pandas as pd

from robustvit.records.cells import RowReader, StoredCell, rows_of, without_scenario
from robustvit.records.records import Question

COLUMN = "clean_pred"  # in the rows of a cell: NaN where the clean prediction is not known
_PERTURBED = ("corruption", "attack")  # kinds that show the model perturbed images; certificates query another model, analyses measure


class CleanPredictions:
    """Finds the clean predictions beside a perturbed cell.

    others: the cells among which the clean ones are, of whatever suite: those of the same model, data, view, transforms, seed and
    precision. The storage may differ, which clean images do not go through.
    """

    def __init__(self, reader: RowReader, others: Iterable[StoredCell]) -> None:
        self._reader = reader
        self._others = others
        self._read: dict[str, pd.Series] = {}

    def cell_beside(self, cell: StoredCell) -> Question | None:
        """The clean cell of the same setting; None where a cell is not perturbed, or there is none."""
        question = cell.question
        if question.kind not in _PERTURBED or question.scenario == "clean":
            return None
        return self._clean.get(_setting(self._reader, question))

    def beside(self, cell: StoredCell) -> pd.Series | None:
        """The predictions of `cell_beside`, by sample."""
        clean = self.cell_beside(cell)
        if clean is not None and clean.cell not in self._read:
            self._read[clean.cell] = _predictions(self._reader, clean)
        return None if clean is None else self._read[clean.cell]

    @cached_property
    def _clean(self) -> dict[str, Question]:
        clean = (one.question for one in self._others if one.question.scenario == "clean")
        return {place: question for question in clean if (place := _setting(self._reader, question))}


def _predictions(reader: RowReader, question: Question) -> pd.Series:
    rows = rows_of(reader.store, question, ["pred"]).rows
    return pd.Series(rows["pred"].to_numpy() if len(rows) else [], rows["sample"], dtype="float64")


def _setting(reader: RowReader, question: Question) -> str:
    """What a cell shares with its clean cell; empty where the store does not hold its canonical question."""
    description = reader.description(question.cell)
    return without_scenario(description, "storage") if description else ""
