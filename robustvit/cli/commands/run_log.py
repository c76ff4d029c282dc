"""The numbers of a run for a log: one log for each model, beside the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from robustvit.evaluation.loggers.log_kinds import LogFacts, log_path, open_log
from robustvit.results.exports.formats import file_of_label

_SETTINGS = ("model", "transforms", "suite", "base", "seed", "precision", "model_view", "weights", "repro")


def log_run(kind: str, store: Path, board: pd.DataFrame) -> Iterator[Path]:
    """Logs every number of the leaderboard of a run at step 0, with the ends of its interval; gives the place of each model's log.

    Names are `fog 3/top1`, `mce_alexnet`, and behind them ` low` and ` high`. Raises BadParameter or MissingExtra.
    """
    for (model, transforms, suite), part in board.groupby(["model", "transforms", "suite"], sort=False):
        label = f"{model}+{transforms}" if transforms else str(model)
        out = store.parent / f"{store.name}.{file_of_label(f'{suite}.{label}')}.log"
        settings = {name: part[name].iloc[0].item() if name == "seed" else str(part[name].iloc[0]) for name in _SETTINGS}
        log = open_log(kind, out, 0, LogFacts(f"{label} on {suite}", str(suite), settings))
        try:
            log.write(0, dict(_numbers(part)))
        finally:
            log.close()
        yield log_path(kind, out)


def _numbers(part: pd.DataFrame) -> Iterator[tuple[str, float]]:
    rows: list[dict[Any, Any]] = part[part["value"].notna()].to_dict("records")
    several = part[part["cell"] != ""].groupby(["scenario", "severity", "metric"])["params"].transform("nunique")
    for row, many in zip(rows, several.reindex(part.index[part["value"].notna()], fill_value=1), strict=True):
        settings = f"({row['params']})" if many > 1 else ""
        name = "/".join(filter(None, (" ".join(filter(None, (row["scenario"] + settings, row["severity"]))), row["metric"])))
        yield name, float(row["value"])
        for end in ("low", "high"):
            if row[end] == row[end]:
                yield f"{name} {end}", float(row[end])
