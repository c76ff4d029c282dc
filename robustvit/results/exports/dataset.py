"""A folder that `datasets.load_dataset` opens: all rows of the leaderboard as Parquet, and a data card that describes the columns."""

from __future__ import annotations

import pandas as pd
import yaml

from robustvit.results.exports.formats import DATA_CARD, ExportFiles, export_format
from robustvit.results.exports.model_index import public_command
from robustvit.results.leaderboard import COLUMNS, Leaderboard
from robustvit.results.table_formats import markdown
from robustvit.version import __version__

DESCRIPTIONS = {
    "model": "label of the model in the store",
    "transforms": "what was done to the model before it was evaluated, empty for nothing",
    "suite": "the suite that requested the cell",
    "data": "the data set of the images",
    "scenario": "corruption, attack, certificate, analysis or shift; `clean`; empty for an average over scenarios",
    "severity": "severity from 1 to 5, or the radius of an attack in pixels of [0, 1]",
    "metric": "name of the metric with its parameters",
    "value": "the number, in `unit`; null where there is none",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
    "n": "the metric's denominator, as a rule the number of images",
    "status": "`complete`, `partial` (samples or cells are missing), `failed` or `undefined`",
    "reason": "why a number is not complete",
    "unit": "unit of value, low and high; `%` is of 100",
    "higher_is_better": "whether a larger value is a better one",
    "seconds": "time that the cell's rows took, on each of its rows",
    "cell": "id of the cell, the hash of everything that it depends on; empty for an average",
    "params": "parameters of the scenario",
    "seed": "seed of all random numbers",
    "precision": "floating-point type of the forward pass",
    "view": "resizing, crop and interpolation that the images went through",
    "base": "the data set whose images these are variants of",
    "model_view": "the model's own resizing, crop and interpolation",
    "storage": "how corrupted images were stored, empty for not at all",
    "weights": "`pretrained`, `checkpoint`, `bundled`, `given` or `random`",
    "source": "where corrupted images are from: `released` files or `on-the-fly`",
    "version": "versions of robustvit that computed the rows",
    "environment": "ids of the environments that computed the rows",
    "repro": "the command that computes the row again",
    "gradients": "verdict on the gradients that an attack followed",
    "plugins": "versions of the plug-ins that a number was computed with",
    "contents": "beginning of the data's fingerprint",
}


@export_format(folder=True)
def data_folder(board: Leaderboard) -> ExportFiles:
    """`leaderboard.parquet` and `README.md`, the data card of Hugging Face's datasets: front matter, and every column with its meaning."""
    return {"leaderboard.parquet": board.rows.to_parquet(index=False), "README.md": _card(board)}


def _card(board: Leaderboard) -> str:
    front = {
        "pretty_name": "Robustness leaderboard", "task_categories": ["image-classification"], "tags": ["robustness", "robustvit"],
        "configs": [{"config_name": "leaderboard", "data_files": "leaderboard.parquet", "default": True}],
    }  # fmt: skip
    counts = [f"{board.rows[name].nunique()} {name}{'' if board.rows[name].nunique() == 1 else 's'}" for name in ("model", "suite")]
    table = pd.DataFrame([(name, kind, DESCRIPTIONS[name]) for name, kind in COLUMNS.items()], columns=["column", "type", "meaning"])
    commands = [f"    {command}" for command in dict.fromkeys(map(public_command, board.rows["repro"]))]
    lines = [
        "---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(), "---", DATA_CARD, "# Robustness leaderboard", "",
        f"{len(board.rows)} numbers of {' and '.join(counts)}, one row each, made by robustvit {__version__}. Open it with",
        "`datasets.load_dataset(FOLDER, split=\"train\")` or `pandas.read_parquet`.", "", "## Columns", "", markdown(table),
        "## Made by", "", *commands, "",
    ]  # fmt: skip
    return "\n".join(lines)
