"""Whether the Records of a store are fit for a board: whole, complete, without foreign files, and of one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from robustvit.errors import StoreDamaged, StoreError, few
from robustvit.records.cells import StoredCell
from robustvit.records.store import Store
from robustvit.records.upkeep.verification import Fault, in_one_line, verify
from robustvit.spec.grouping import grouped

_AGAIN = "Run the suite again in a new store, with one version."


def refuse_unfit(
    store: Store, cells: Sequence[StoredCell], rows: pd.DataFrame, tell: Callable[[int, int], object] = lambda *_: None
) -> None:
    """Raises for Records that no board takes, in one line. cells, rows: of one model on one suite, and their leaderboard.

    tell: called as `verify` does. Raises StoreDamaged for files that are not whole, StoreError for foreign files, finished runs without
    all their rows, cells without all requested samples, several versions of robustvit or of the suite, and Records without any number.
    """
    _refuse_faults(store, verify(store, tell).faults)
    _refuse_versions(store, cells, rows)
    lacking = rows[(rows["status"] == "partial") & (rows["cell"] != "")].drop_duplicates("cell")
    if len(lacking):
        told = few([f"{' '.join(filter(None, (row['scenario'], row['severity'])))}: {row['reason']}" for row in lacking.to_dict("records")])
        count = f"{len(lacking)} of {rows.loc[rows['cell'] != '', 'cell'].nunique()} cells lack rows"
        raise StoreError(f"the store {store.path} is not complete ({count}): {told}. Run the same command again: it goes on.")
    if not ((rows["status"] == "complete") & rows["value"].notna()).any():
        raise StoreError(f"the store {store.path} has no complete number of this model and suite; `robustvit run` computes them.")


def _refuse_faults(store: Store, faults: Sequence[Fault]) -> None:
    """One line for all faults, those with the same reason once."""
    if not faults:
        return
    error = StoreDamaged if any(fault.kind == "damaged" for fault in faults) else StoreError
    raise error(f"the store {store.path} cannot be submitted ({len(faults)} fault{'s' * (len(faults) > 1)}): {in_one_line(faults)}.")


def _refuse_versions(store: Store, cells: Sequence[StoredCell], rows: pd.DataFrame) -> None:
    made = [(version, str(row.cell)) for row in rows.itertuples() if row.cell for version in str(row.version).split(", ") if version]
    _refuse_several(store, "versions of robustvit", made)
    _refuse_several(store, "versions of the suite", [(str(one.question.suite_version), one.question.cell) for one in cells])


def _refuse_several(store: Store, what: str, pairs: Iterable[tuple[str, str]]) -> None:
    """pairs: of a version and a cell."""
    found = {version: set(cells) for version, cells in grouped(pairs).items()}
    if len(found) > 1:
        told = ", ".join(f"{version} ({len(found[version])} cells)" for version in sorted(found))
        raise StoreError(f"the store {store.path} mixes {what}: {told}; a board has one. {_AGAIN}")
