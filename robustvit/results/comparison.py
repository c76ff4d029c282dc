"""Paired tests of two models on the same samples, and of two stores on the same cells.

Every test is McNemar's, exact: under the null hypothesis each side has half of the samples that only one side has correct. It is two-sided
and conservative (no mid-p). P-values are corrected by Holm over all cells of the table's suite, and a verdict is given at 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from robustvit.errors import StoreError
from robustvit.records.cells import open_store, step_to_show
from robustvit.records.questions import model_names
from robustvit.records.store import Store
from robustvit.results.paired_cells import SETTING, MatchedKeys, Pair, Side, by_label, match_cells, paired_cell, pairs
from robustvit.statistics.intervals import holm, paired

ALPHA = 0.05
_ABOUT = ["suite", "data", "scenario", "severity", "params", "transforms", "seed", "precision", "storage"]
_NUMBERS = ["n", "acc_a", "acc_b", "difference", "low", "high", "only_a", "only_b", "p", "p_holm", "verdict", "partial", "cell_a", "cell_b"]


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value that the samples which only one side has correct are evenly split; 1 where there are none."""
    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))


def compare(store: Store | Path | str, a: str, b: str, *, suite: str | None = None) -> pd.DataFrame:
    """Models `a` and `b` cell by cell, over the samples that both have.

    A cell is shared when data, scenario, severity, parameters, transforms and seed are equal; each model has its own view. A side may be
    named with its transforms, `demo+attention_temperature(temperature=2)` or as tables write it, `demo → …`: then such cells are compared
    with those of the other side's, or of none where it names none. acc_a, acc_b and difference (a − b, in points) are top-1 in %, with a
    paired 95 % interval (Bonett and Price's adjusted Wald). only_a, only_b: samples that one alone has correct; p is McNemar's exact test
    on them, p_holm the same corrected over all cells of the suite. verdict: `a better`, `b better`, `no difference shown`, `no shared
    samples`, `no answers` (no predictions: an analysis has measurements, see its metrics on the leaderboard), `clips` (frames are no
    independent samples, and their labels do not count: see flip_rate there), or why a side has no rows: `b: ValueError: …`. Cells of other
    versions of a plug-in, or of other images under one name, are not compared: `other versions: fog 1 and 2`, `other images of 'folder':
    content 3fa2c1 and 9b01dd`. Of a chain of attacks (AutoAttack) that one side has not finished, both are taken after the furthest attack
    that both have come to. partial: what is missing of either cell, `2 of 4 attacks, the last apgd_t: the rest may fool more` or `a: 150 of
    400 samples`; "" where both are whole. Raises StoreError for a model that is not there, and where the two share no cell; UsageError for
    one model and itself, under whatever labels.
    """
    rows = [{**pair.about, **_tested(pair)} for pair in pairs(open_store(store), a, b, suite)]
    return _corrected(pd.DataFrame(rows, columns=[*_ABOUT, *_NUMBERS]))


def flips(store: Store | Path | str, a: str, b: str, *, suite: str | None = None) -> pd.DataFrame:
    """The samples that one model has correct and the other misclassifies, in the cells they share. `cell` is a's, `cell_b` is b's."""
    names = ["suite", "data", "cell", "scenario", "severity", "params", "sample", "label", "pred_a", "pred_b", "cell_b", "partial"]
    parts = [_flipped(pair) for pair in pairs(open_store(store), a, b, suite)]
    counts = dict.fromkeys(("label", "pred_a", "pred_b"), "int64")
    return pd.concat(parts, ignore_index=True)[names].astype(counts)


def diff(
    store_a: Store | Path | str, store_b: Store | Path | str, *, suite: str | None = None, models: Iterable[str] | None = None
) -> pd.DataFrame:
    """The differences between two stores, cell by cell.

    suite, models: only these, on both sides. Cells are matched by model label, suite, data, scenario, severity, parameters, transforms,
    seed, precision and storage; one without an equal is matched but for the last three, where that leaves one on each side, and `across`
    says `seed 0 and 1` (the row has a's). Cell ids may differ, as they do between versions. difference is b − a in points of top-1, with
    the paired interval of `compare`; changed counts the samples with another prediction; equal says whether the records are bitwise the
    same, samples and columns included. verdict: `identical` (equal records), `moved` (p_holm below 5 %, corrected over all matched cells),
    `within chance`, `not compared` (no rows, as `partial` says then, no shared samples, or no predictions), `only in a`, `only in b`. Cells
    of one store only are listed without numbers. Chains of attacks and `partial`: as for `compare`. Raises StoreError for a suite or model
    that a store does not have, and where both give the same samples different labels.
    """
    first, second, chosen = open_store(store_a), open_store(store_b), model_names(models)
    left, right = by_label(first, suite, chosen), by_label(second, suite, chosen)
    sides = [
        (keys, Side(first, left.get(keys.a or (), ())), Side(second, right.get(keys.b or (), ()))) for keys in match_cells(left, right)
    ]
    rows = [_moved(*one) for one in sides]
    table = pd.DataFrame(rows, columns=["model", *_ABOUT, *_NUMBERS[:6], "changed", *_NUMBERS[6:10], "equal", *_NUMBERS[10:], "across"])
    matched = table["p"].notna()
    table.loc[matched, "p_holm"] = holm(table.loc[matched, "p"].to_list())
    compared = matched & (table["verdict"] == "")
    table.loc[compared, "verdict"] = np.where(table.loc[compared, "p_holm"] < ALPHA, "moved", "within chance")
    return _typed(table)


def _of_clips(pair: Pair) -> bool:
    """Whether the samples are frames of clips: they are no independent samples, and their labels do not count."""
    return bool({"against", "against_a"} & set(pair.rows.columns))


def _correct(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    rows = pair.rows
    return np.asarray(rows["pred_a"] == rows["label_a"]), np.asarray(rows["pred_b"] == rows["label_a"])


def _tested(pair: Pair, sign: int = 1) -> dict[str, Any]:
    """The numbers of a pair. sign: −1 where the difference is b − a."""
    ids = {"partial": pair.partial, "cell_a": pair.a.question.cell, "cell_b": pair.b.question.cell}
    n, predicted = len(pair.rows), {"pred_a", "pred_b"} <= set(pair.rows)
    if n == 0 or not predicted or _of_clips(pair) or pair.refused:
        verdict = pair.refused or pair.failed or ("no shared samples" if n == 0 else "clips" if predicted else "no answers")
        return {**ids, "n": n, "only_a": 0, "only_b": 0, "verdict": verdict}
    a, b = _correct(pair)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    low, high = paired(only_a, only_b, n) if sign == 1 else paired(only_b, only_a, n)
    return {
        **ids, "n": n, "acc_a": 100 * float(a.mean()), "acc_b": 100 * float(b.mean()), "difference": sign * 100 * (only_a - only_b) / n,
        "low": 100 * low, "high": 100 * high, "only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b),
    }  # fmt: skip


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with p_holm over each suite, and verdicts."""
    table["verdict"] = table["verdict"].astype(object)
    for _, part in table[table["p"].notna()].groupby("suite", sort=False):
        corrected = holm(part["p"].to_list())
        better = np.where(part["difference"].to_numpy(float) > 0, "a better", "b better")
        table.loc[part.index, "p_holm"] = corrected
        table.loc[part.index, "verdict"] = np.where(corrected < ALPHA, better, "no difference shown")
    return _typed(table)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    numbers = ("acc_a", "acc_b", "difference", "low", "high", "p", "p_holm")
    counts = ("seed", "n", "changed", "only_a", "only_b")
    return table.astype(dict.fromkeys(numbers, "float64") | {name: "int64" for name in counts if name in table})


def _flipped(pair: Pair) -> pd.DataFrame:
    question = pair.a.question
    if pair.refused:
        raise StoreError(f"{question.scenario} {question.severity} of '{question.data}' is not compared; {pair.refused}.")
    if "pred_a" not in pair.rows or "pred_b" not in pair.rows or _of_clips(pair):
        rows = pd.DataFrame({"sample": [], "label": [], "pred_a": [], "pred_b": []})
    else:
        a, b = _correct(pair)
        rows = pair.rows[a != b].rename(columns={"label_a": "label"})[["sample", "label", "pred_a", "pred_b"]]
    about = {name: getattr(question, name) for name in ("suite", "data", "cell", "scenario", "severity", "params")}
    return rows.assign(**about, cell_b=pair.b.question.cell, partial=pair.partial or pair.failed)


def _moved(keys: MatchedKeys, a: Side, b: Side) -> dict[str, Any]:
    key = keys.a or keys.b or ()
    about = {**dict(zip(("model", "suite", *SETTING), key, strict=True)), "across": keys.across}
    if not a.steps or not b.steps:
        side, one = ("a", a) if a.steps else ("b", b)
        cell = step_to_show(one.store, one.steps).question.cell
        blank = {"n": 0, "changed": 0, "only_a": 0, "only_b": 0, "equal": False, "partial": "", "cell_a": "", "cell_b": ""}
        return {**about, **blank, f"cell_{side}": cell, "verdict": f"only in {side}"}
    pair = paired_cell(key[1:], a, b, whole=True)
    pair = replace(pair, refused="", partial=pair.partial or pair.failed)  # other versions are what a difference is looked for between
    numbers = _tested(pair, sign=-1)
    equal = _equal(*(one.rows for one in pair.found))
    changed = int((pair.rows["pred_a"] != pair.rows["pred_b"]).sum()) if "p" in numbers else 0
    verdict = "identical" if equal else "" if "p" in numbers else "not compared"
    return {**about, **numbers, "changed": changed, "equal": equal, "verdict": verdict}


def _equal(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two tables hold the same samples, columns and bits, in whatever row order. Two empty tables are not equal."""
    if len(a) == 0 or len(a) != len(b) or set(a.columns) != set(b.columns):
        return False
    left, right = (frame.sort_values("sample", ignore_index=True) for frame in (a, b))
    return all(_same(left[name], right[name]) for name in left.columns)


def _same(a: pd.Series, b: pd.Series) -> bool:
    if a.dtype == object:
        return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a.equals(b))
