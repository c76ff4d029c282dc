"""A transfer matrix as pages of text: a row for each attack and source, a column for each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.results.parameters import differing_parameters
from robustvit.results.transfer_matrix import OF_MATRIX
from robustvit.spec.grouping import grouped


class Matrix(NamedTuple):
    """One attack's matrix. name: as tables write it; entries: by source and target, in the order of the sources and of the targets."""

    name: str
    suite: str
    data: str
    sources: Sequence[str]
    targets: Sequence[str]
    entries: Mapping[tuple[str, str], pd.Series]


def matrices(table: pd.DataFrame) -> Iterator[Matrix]:
    """The matrices of a `transfer_matrix`, each with what its name must tell from the others."""
    keys = [tuple(map(str, key)) for key in table[list(OF_MATRIX)].itertuples(index=False)]
    for key, places in grouped(zip(keys, table.index, strict=True)).items():
        own, part = dict(zip(OF_MATRIX, key, strict=True)), table.loc[places]
        alike = table[table["scenario"] == own["scenario"]]
        words = [own["scenario"], own["severity"], f"stored as {own['stored_as']}" if own["stored_as"] else ""]
        words += [differing_parameters(own["params"], alike["params"].unique())]
        words += [own[name] for name in ("seed", "precision") if alike[name].nunique() > 1]
        sources, targets = (list(dict.fromkeys(part[name].map(str))) for name in ("source", "target"))
        entries = {(str(row["source"]), str(row["target"])): row for _, row in part.iterrows()}
        yield Matrix(" ".join(filter(None, words)), own["suite"], own["data"], sources, targets, entries)


def matrix_page(table: pd.DataFrame, share: str = "success_both") -> pd.DataFrame:
    """A page of matrices as text: a row for each attack and source, a column for each target, `54.3 [44.0, 64.2] of 92`."""
    rows = []
    for matrix in matrices(table):
        for source in matrix.sources:
            cells = {target: _cell(matrix.entries.get((source, target)), share) for target in matrix.targets}
            rows.append({"attack": matrix.name, "source": source, **cells})
    return pd.DataFrame(rows).fillna("")


def brief_page(table: pd.DataFrame, share: str = "success_both") -> pd.DataFrame:
    """The same for a terminal: rates alone, the models numbered, and the number of a model in place of its name in the columns."""
    number = _numbered(table)
    rows = []
    for matrix in matrices(table):
        for source in matrix.sources:
            entries = {target: matrix.entries.get((source, target)) for target in number if target in matrix.targets}
            cells = {number[target]: _rate(entry, share) for target, entry in entries.items()}
            rows.append({"attack": matrix.name, "source": f"{number[source]} {source}", **cells})
    return pd.DataFrame(rows).fillna("")


def legend(table: pd.DataFrame, share: str = "success_both") -> str:
    """What a brief page leaves out: the names of targets that are no sources, and how many samples its entries are of."""
    numbers = _numbered(table)
    others = ", ".join(f"{numbers[name]} {name}" for name in dict.fromkeys(table["target"]) if name not in set(table["source"]))
    counts = table["n_both" if share == "success_both" else "n_all"].dropna()
    spread = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    unread = " – is a surrogate of other classes, on itself." if (table["right_at"] == "target").any() else ""
    return (f"Columns: {others}. " if others else "") + (f"Entries are of {spread} samples." if len(counts) else "") + unread


def _numbered(table: pd.DataFrame) -> dict[str, str]:
    names = list(dict.fromkeys((*table["source"], *table["target"])))
    return {name: str(place) for place, name in enumerate(names, start=1)}


def _cell(entry: pd.Series | None, share: str) -> str:
    rate = _rate(entry, share)
    if entry is None or np.isnan(entry[share]):
        return rate
    n = entry["n_both" if share == "success_both" else "n_all"]
    return f"{rate} [{entry[f'{share}_low']:.1f}, {entry[f'{share}_high']:.1f}] of {n}"


def _rate(entry: pd.Series | None, share: str) -> str:
    if entry is None:
        return ""
    if not np.isnan(entry[share]):
        return f"{entry[share]:.1f}"
    return "–" if entry["status"] == "complete" else str(entry["status"])  # complete without a rate: a surrogate of other classes
