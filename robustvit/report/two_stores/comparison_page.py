"""The page of two stores: provenance side by side, verdicts, headline numbers, differences of every cell, samples that changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from robustvit.errors import StoreError, UsageError, few
from robustvit.records.store import Store
from robustvit.report.class_labels import class_names_of, data_facts
from robustvit.report.html.document import render_document
from robustvit.report.numbers import Numbers, TableColumns, packed_table, script_json
from robustvit.report.provenance import manifests
from robustvit.report.samples.bundle import Bundle
from robustvit.report.samples.sample_rows import INLINE
from robustvit.report.two_stores.changed_samples import changed_groups
from robustvit.report.two_stores.forest import forest_of
from robustvit.report.two_stores.headline_rows import headline_tables
from robustvit.report.two_stores.sides import two_sides
from robustvit.report.two_stores.verdicts import side_letter, verdicts_of
from robustvit.results.comparison import diff
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.two_stores.paired_headlines import paired_headlines
from robustvit.spec.given import check_path

_TITLES = {
    "acc_a": "top-1 A", "acc_b": "top-1 B", "difference": "B − A", "only_a": "only A correct", "only_b": "only B correct",
    "p_holm": "p (Holm)", "across": "matched across", "partial": "what is missing", "cell_a": "cell of A", "cell_b": "cell of B",
}  # fmt: skip
_POINTS = ("difference", "low", "high", "acc_a", "acc_b")
_COLUMNS = TableColumns(
    first=("model", "transforms", "suite", "data", "scenario", "severity", "verdict", "difference", "low", "high", "acc_a", "acc_b", "n",
           "changed", "only_a", "only_b", "p_holm"),
    always=("scenario", "severity", "verdict", "difference", "low", "high", "acc_a", "acc_b", "n", "changed", "p_holm"),
    numeric=("difference", "low", "high", "acc_a", "acc_b", "n", "changed", "only_a", "only_b", "p", "p_holm", "seed"),
    filters=("suite", "model", "verdict"),
)  # fmt: skip


def open_other(store: Store, against: Store | Path | str) -> Store:
    """The store that another is compared with. Raises StoreError where there is none, UsageError where it is that store itself."""
    try:
        other = against if isinstance(against, Store) else Store(check_path(against, "--against"))
    except StoreError as error:
        raise type(error)(f"--against: {error}") from error
    if os.path.samefile(store.path, other.path):
        raise UsageError(f"--against {other.path} is the store itself; name another one, of the same suite run again.")
    return other


def render_comparison(
    a: Store, b: Store, *, suite: str | None = None, models: Iterable[str] | None = None, bundle: Bundle | None = None
) -> str:
    """The page of two stores. suite, models: only these, on both sides. The same input gives the same page.

    bundle: where the rows of the list of samples are written; without one they are on the page, where they are few enough. Raises
    StoreError for a suite or model that a store does not have, and where the two have no cell in common.
    """
    chosen = None if models is None or isinstance(models, str) else list(models)
    table = diff(a, b, suite=suite, models=chosen if chosen is not None else models)
    if not ((table["cell_a"] != "") & (table["cell_b"] != "")).any():
        raise StoreError(f"{a.path} and {b.path} have no cell in common. {_holds(a, table, 'a')}; {_holds(b, table, 'b')}.")
    boards = [build_leaderboard(store, suite=suite, models=chosen if chosen is not None else models) for store in (a, b)]
    names = table["model"].unique()
    return render_document(
        "two_stores/page.html.j2", beside=bundle is not None, styles=("two_stores/style.css",),
        title=f"{names[0] if len(names) == 1 else f'{len(names)} models'}: two runs compared",
        sides=two_sides(*boards), verdicts=verdicts_of(table), headlines=headline_tables(paired_headlines(*boards)),
        forest=forest_of(table), cells=_cells(table), a=str(a.path), b=str(b.path), **_samples((a, b), boards, table, bundle),
    )  # fmt: skip


def _holds(store: Store, table: pd.DataFrame, side: str) -> str:
    """What a store has: `results has demo on quick`."""
    own = table[table[f"cell_{side}"] != ""]
    each = list(dict.fromkeys(f"{model} on {suite}" for model, suite in zip(own["model"], own["suite"], strict=True)))
    return f"{store.path} has {few(each) or 'no runs'}"


def _cells(table: pd.DataFrame) -> Numbers:
    """Every row of the table of `diff`, packed for the page's script."""
    shown = table.assign(verdict=table["verdict"].map(side_letter), equal=table["equal"].map({True: "yes", False: "no"}))
    badges = {one.name: one.badge for one in verdicts_of(table).counts}
    return packed_table(
        shown, _COLUMNS, titles=_TITLES, badges={"verdict": badges}, decimals=dict.fromkeys(_POINTS, 2), file="differences.csv"
    )


def _samples(stores: tuple[Store, Store], boards: list[Leaderboard], table: pd.DataFrame, bundle: Bundle | None) -> dict[str, Any]:
    """The template variables of the list of samples: its groups, as JSON or by their files; or how many predictions are left out."""
    names = [_class_names(store, board.rows) for store, board in zip(stores, boards, strict=True)]
    groups = changed_groups(stores, table, names)
    count = sum(len(one.samples) * len(one.cells) for one in groups)
    if bundle is None and count > INLINE:
        return {"samples": None, "samples_left_out": count}
    found = {
        "groups": [one.title for one in groups],
        "inline": [Markup(script_json(one.packed())) for one in groups] if bundle is None else [],
        "files": bundle.write_rows(groups) if bundle is not None else [],
    }
    return {"samples": found if groups else None, "samples_left_out": 0}


def _class_names(store: Store, rows: pd.DataFrame) -> Mapping[str, list[str]]:
    runs = manifests(store, rows)
    found: dict[str, list[str]] = {}
    for suite, base in rows[["suite", "base"]].drop_duplicates().itertuples(index=False):
        found |= class_names_of(data_facts(str(suite), str(base), runs), runs)
    return found
