"""The columns of timm's results tables (`results/results-imagenet.csv`), which its generate_csv_results.py reads."""

from __future__ import annotations

from typing import Any

import pandas as pd

from robustvit.records.manifest import ModelFacts
from robustvit.results.exports.formats import ExportFiles, export_format
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.published.agreement import tag_of
from robustvit.results.table_formats import csv_text
from robustvit.spec.view import View

COLUMNS = ("model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation", "n")


@export_format()
def timm_table(board: Leaderboard) -> ExportFiles:
    """One row per clean cell, best first, in COLUMNS: those of timm, and beside them n, the number of images.

    A model has timm's name with the tag of its weights where its card names them, else its label. param_count is in millions.
    """
    rows = []
    for (model, cell), part in board.rows[board.rows["scenario"] == "clean"].groupby(["model", "cell"], sort=False):
        complete = part[part["status"] == "complete"].drop_duplicates("metric").set_index("metric")
        if "top1" not in complete.index:
            continue
        first: dict[Any, Any] = complete.loc[["top1"]].to_dict("records")[0]
        values = complete["value"]
        card = board.cards.get(str(model), ModelFacts())
        count = f"{card.parameters / 1e6:.2f}" if card.parameters else None
        name = (tag_of(card) if first["transforms"] == "" else "") or (f"{model} → {first['transforms']}" if first["transforms"] else model)
        accuracies = [float(values.get(metric, float("nan"))) for metric in ("top1", "top5")]
        rows.append([name, *_timm_view(board.views.get(first["view"])), *accuracies, count, int(first["n"]), cell])
    names = ["model", "img_size", "crop_pct", "interpolation", "top1", "top5", "param_count", "n", "cell"]
    table = pd.DataFrame(rows, columns=names).drop_duplicates("cell").sort_values("top1", ascending=False, kind="stable")
    table["top1_err"], table["top5_err"] = 100 - table["top1"], 100 - table["top5"]
    return {"results.csv": csv_text(table[list(COLUMNS)], "%.3f")}


def _timm_view(view: View | None) -> tuple[int | None, str | None, str | None]:
    if view is None:
        return None, None, None
    share = min(view.size) / view.resize if view.resize and view.crop == "center" else 1.0
    return min(view.size), f"{share:.3f}", view.interpolation
