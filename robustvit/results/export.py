"""The leaderboard in other projects' formats.

csv, parquet and json hold all rows; md and latex fit a page; robustbench and timm hold what readers of those projects' files expect, with
null or nothing where a store does not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from robustvit.errors import UsageError
from robustvit.records.manifest import ModelFacts
from robustvit.results.gradient_masking import verdict_word, worst_verdict
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.pages import pages
from robustvit.results.table_formats import check_choice, csv_text, pages_latex, pages_markdown, save_file
from robustvit.spec.view import View

FORMATS = ("csv", "parquet", "json", "md", "latex", "robustbench", "timm")


def export(board: Leaderboard, format: str, path: Path | str | None = None) -> str:
    """The leaderboard as text in a format, written to `path` as well when one is given. Parquet is binary: it needs a path, and returns "".

    csv writes ten significant digits; read it with `robustvit.results.leaderboard.read_csv`. md and latex (with booktabs) hold the pages of
    `robustvit.results.pages`: one row per model, then every other number by scenario. Raises UsageError for an unknown format, StoreFull
    where the path cannot be written.
    """
    check_choice("the format", format, FORMATS)
    if format == "parquet" and path is None:
        raise UsageError("parquet is binary and cannot be printed; name a file with -o board.parquet.")
    content = board.rows.to_parquet(index=False) if format == "parquet" else _WRITERS[format](board)
    if path is not None:
        save_file(content, Path(path))
    return content if isinstance(content, str) else ""


def _csv(board: Leaderboard) -> str:
    return csv_text(board.rows, "%.10g")


def _md(board: Leaderboard) -> str:
    return pages_markdown(pages(board.rows))


def _json(board: Leaderboard) -> str:
    plain = board.rows.astype(object).where(board.rows.notna(), None)
    return json.dumps(plain.to_dict(orient="records"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _latex(board: Leaderboard) -> str:
    return pages_latex(pages(board.rows))


def _robustbench(board: Leaderboard) -> str:
    """One object per model: the keys of RobustBench's model_info files, null where a store cannot know (authors, venue, extra data)."""
    keys = ["model", "transforms", "suite", "base"]
    found = []
    for (model, transforms, suite, data), part in board.rows.groupby(keys, sort=False):
        under_attack = _one(part, metric="robust_accuracy", scenario="autoattack")
        corrupted = _one(part, metric="mean_err_15", scenario="")
        found.append({
            "name": f"{model} → {transforms}" if transforms else model, "architecture": model, "dataset": data, "suite": suite,
            "threat_model": "corruptions" if corrupted is not None else _threat(part),
            "eps": None if under_attack is None else under_attack["severity"],
            "clean_acc": _percent(_one(part, metric="top1", scenario="clean")), "autoattack_acc": _percent(under_attack),
            "corruptions_acc": None if corrupted is None else round(100 - float(corrupted["value"]), 2),
            "corruptions_mce": _percent(_one(part, metric="mce_alexnet", scenario="")),
            "n_examples": int(part["n"].max()), "additional_data": None, "number_forward_passes": None, "link": None, "authors": None,
            "venue": None, "reported": None, **_reliability(part),
        })  # fmt: skip
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _reliability(part: pd.DataFrame) -> dict[str, Any]:
    """Whether the attacks' gradients are suspect, None where that is not known, and why."""
    worst = worst_verdict(part["gradients"])
    unreliable = {"suspect": True, "honest": False}.get(verdict_word(worst))
    return {"unreliable": unreliable, "footnote": f"gradients {worst}" if worst else None}


def _one(part: pd.DataFrame, **wanted: str) -> pd.Series | None:
    """The one complete row with these values; None where there is none, or more than one."""
    chosen = part[part["status"] == "complete"]
    for name, value in wanted.items():
        chosen = chosen[chosen[name] == value]
    return chosen.iloc[0] if len(chosen) == 1 else None


def _percent(row: pd.Series | None) -> float | None:
    return None if row is None else round(float(row["value"]), 2)


def _threat(part: pd.DataFrame) -> str | None:
    """Linf, L2 or L1 where every attack of the part has that norm, else None."""
    norms = set(part.loc[part["metric"] == "robust_accuracy", "params"].str.extract(r"norm=(\w+)")[0].dropna())
    return {"linf": "Linf", "l2": "L2", "l1": "L1"}.get(norms.pop()) if len(norms) == 1 else None


def _timm(board: Leaderboard) -> str:
    """The columns of timm's results tables, one row per clean cell, best first. param_count is in millions."""
    rows = []
    for (model, cell), part in board.rows[board.rows["scenario"] == "clean"].groupby(["model", "cell"], sort=False):
        first, fifth = (_one(part, metric=name) for name in ("top1", "top5"))
        if first is None:
            continue
        accuracies = [float("nan") if row is None else float(row["value"]) for row in (first, fifth)]
        count = board.cards.get(str(model), ModelFacts()).parameters
        rows.append([model, *_timm_view(board.views.get(first["view"])), *accuracies, f"{count / 1e6:.2f}" if count else None, cell])
    names = ["model", "img_size", "crop_pct", "interpolation", "top1", "top5", "param_count", "cell"]
    table = pd.DataFrame(rows, columns=names).drop_duplicates("cell").sort_values("top1", ascending=False, kind="stable")
    table["top1_err"], table["top5_err"] = 100 - table["top1"], 100 - table["top5"]
    order = ["model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation"]
    return csv_text(table[order], "%.3f")


def _timm_view(view: View | None) -> tuple[int | None, str | None, str | None]:
    if view is None:
        return None, None, None
    share = min(view.size) / view.resize if view.resize and view.crop == "center" else 1.0
    return min(view.size), f"{share:.3f}", view.interpolation


_WRITERS: dict[str, Callable[[Leaderboard], str]] = {
    "csv": _csv, "json": _json, "md": _md, "latex": _latex, "robustbench": _robustbench, "timm": _timm,
}  # fmt: skip
