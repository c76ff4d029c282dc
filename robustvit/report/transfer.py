"""The transfer matrices of a suite as heat maps: sources by targets, with counts and tests in the tooltips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustvit.records.store import Store
from robustvit.report.charts import HeatCell
from robustvit.report.colours import colour_step
from robustvit.results.parameters import crafted_elsewhere
from robustvit.results.transfer_matrix import transfer_matrix
from robustvit.results.transfer_pages import Matrix, matrices


@dataclass(frozen=True)
class TransferMap:
    """One attack's matrix. rows: a source and a cell for each target."""

    name: str
    targets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell, ...]], ...]


def transfer_maps(store: Store, board: pd.DataFrame, suite: str, data: str) -> tuple[TransferMap, ...]:
    """The matrices of a suite on a data set; none where no images were crafted on surrogates."""
    own = board[(board["suite"] == suite) & (board["base"] == data)]
    if not own["params"].map(crafted_elsewhere).any():
        return ()
    table = transfer_matrix(store, suite=suite, models=own["model"].unique())
    return tuple(_map(one) for one in matrices(table[table["cell"].isin(own["cell"])]))


def _map(matrix: Matrix) -> TransferMap:
    rows = tuple((source, tuple(_cell(matrix.entries.get((source, target))) for target in matrix.targets)) for source in matrix.sources)
    return TransferMap(matrix.name, tuple(matrix.targets), rows)


def _cell(entry: pd.Series | None) -> HeatCell:
    if entry is None:
        return HeatCell("", None, "absent", "")
    status = str(entry["status"])
    if np.isnan(entry["success_both"]):
        return HeatCell({"failed": "✕", "complete": "–"}.get(status, status), None, status, f"{_between(entry)}\n{entry['reason']}")
    value = float(entry["success_both"])
    return HeatCell(f"{value:.0f}", colour_step(value), status, "\n".join(_lines(entry)))


def _between(entry: pd.Series) -> str:
    return f"{entry['source']} → {entry['target']}" if entry["source"] != entry["target"] else f"{entry['source']}, on itself"


def _lines(entry: pd.Series) -> list[str]:
    where = "right on both sides" if entry["right_at"] == "both" else "right at the target (the source has other classes)"
    lines = [_between(entry), f"{_share(entry, 'both')} {where}", f"{_share(entry, 'all')} in all"]
    if not np.isnan(entry["ratio"]):
        lines.append(f"{entry['ratio']:.2f} [{entry['ratio_low']:.2f}, {entry['ratio_high']:.2f}] of the success on the source itself")
    if not np.isnan(entry["p_holm"]):
        lines.append(f"{entry['verdict']}, p = {entry['p_holm']:.2g} (McNemar, Holm)")
    if entry["reason"]:
        lines.append(str(entry["reason"]))
    return lines


def _share(entry: pd.Series, over: str) -> str:
    low, high = (entry[f"success_{over}_{end}"] for end in ("low", "high"))
    return f"{entry[f'success_{over}']:.1f} % [{low:.1f}, {high:.1f}] of {entry[f'n_{over}']}"
