"""The class that a model predicts for each clean image, to compare with its prediction on the same image perturbed."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from robustvit.records.cells import RowReader, StoredCell, rows_of, without_scenario
from robustvit.records.records import Question

COLUMN = "clean_pred"  # in the rows of a cell: NaN where the clean prediction is not known
_PERTURBED = ("corruption", "attack")  # kinds that show the model perturbed images; certificates query another model, analyses measure


def clean_predictions(reader: RowReader, cells: Iterable[StoredCell], others: Iterable[StoredCell]) -> dict[str, pd.Series]:
    """The clean predictions beside each perturbed cell, by its id: a Series by sample. A cell without a clean one beside it is absent.

    others: the cells of the store among which the clean ones are, of whatever suite: those of the same model, data, view, transforms, seed
    and precision. The storage may differ, which clean images do not go through.
    """
    clean = {place: one.question for one in others if one.question.scenario == "clean" and (place := _setting(reader, one.question))}
    read: dict[str, pd.Series] = {}
    found = {}
    for question in (one.question for one in cells):
        beside = clean.get(_setting(reader, question)) if question.kind in _PERTURBED and question.scenario != "clean" else None
        if beside is not None:
            if beside.cell not in read:
                read[beside.cell] = _predictions(reader, beside)
            found[question.cell] = read[beside.cell]
    return found


def _predictions(reader: RowReader, question: Question) -> pd.Series:
    rows = rows_of(reader.store, question, ["pred"]).rows
    return pd.Series(rows["pred"].to_numpy() if len(rows) else [], rows["sample"], dtype="float64")


def _setting(reader: RowReader, question: Question) -> str:
    """What a cell shares with its clean cell; empty where the store does not hold its canonical question."""
    description = reader.description(question.cell)
    return without_scenario(description, "storage") if description else ""
