"""Hugging Face's `model-index`: evaluation results in the front matter of a model card, through huggingface_hub's own classes."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import pandas as pd

from robustvit.errors import MissingExtra
from robustvit.results.exports.formats import ExportFiles, export_format, file_of_label
from robustvit.results.leaderboard import Leaderboard
from robustvit.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

HUB_NAMES = {"imagenet": "imagenet-1k"}  # data sets whose name on the hub is another one
METRIC_TYPES = {"top1": "accuracy"}
_CONTEXT = ("suite", "scenario", "severity", "params", "view", "source", "storage", "precision", "seed")


@export_format()
def model_index(board: Leaderboard) -> ExportFiles:
    """`MODEL.yaml` for every model: YAML with `model-index`, for the front matter of its card. Every complete number is a result.

    The data set's `config` names suite, scenario, severity and parameters, its `args` what else a number depends on and the command that
    makes it again; the metric's `args` the interval, unit and n. Raises MissingExtra without huggingface_hub.
    """
    files = {}
    for (model, transforms), part in board.rows.groupby(["model", "transforms"], sort=False):
        label = f"{model}+{transforms}" if transforms else str(model)
        results = eval_results(part)
        if results:
            files[f"{file_of_label(label)}.yaml"] = metadata(label, results) + "\n"
    return files or {"model-index.yaml": "model-index: []\n"}


def eval_results(rows: pd.DataFrame) -> list[EvalResult]:
    """The complete numbers of one model's rows. Raises MissingExtra without huggingface_hub."""
    try:
        from huggingface_hub import EvalResult
    except ImportError as error:
        raise MissingExtra("a model-index needs huggingface_hub: python3 -m pip install huggingface-hub.") from error
    complete = rows[(rows["status"] == "complete") & rows["value"].notna()]
    return [EvalResult(**_described(row)) for row in complete.to_dict("records")]


def metadata(label: str, results: list[EvalResult]) -> str:
    """The YAML of a model's results, without a line for what a card does not say."""
    from huggingface_hub import ModelCardData

    return str(ModelCardData(model_name=label, eval_results=results).to_yaml())


def public_command(command: str) -> str:
    """A command without the places of this machine: its store, its folder of data, the folders of files that it names."""
    without = re.sub(r" --(?:store|data-dir)(?:=| )(?:'[^']*'|\S+)", "", command)
    return shlex.join(_without_folder(word) for word in shlex.split(without))


def _without_folder(word: str) -> str:
    """The address of a file or a folder on a disk without the folders above it; any other word as it is."""
    return re.sub(r"^((?:file|folder|npz|kept|hfds|tfds|wds):)[^?]*/(?=[^/?])", r"\1", word)


def evaluated_here(result: dict[str, Any]) -> bool:
    """Whether a result of a model-index was made by this package, of whatever version."""
    dataset = result.get("dataset")
    given = dataset.get("args") if isinstance(dataset, dict) else None
    return isinstance(given, dict) and str(given.get("evaluated_with", "")).startswith("robustvit ")


def _described(row: dict[Any, Any]) -> dict[str, Any]:
    what = " ".join(part for part in (row["scenario"], row["severity"]) if part) or "average"
    settings = f" ({row['params']})" if row["params"] else ""
    base = str(row["base"])
    context = {name: row[name] for name in _CONTEXT if row[name] != ""} | {"command": public_command(row["repro"])}
    interval = {name: round(float(row[name]), 6) for name in ("low", "high") if row[name] == row[name]}
    return {
        "task_type": "image-classification", "dataset_type": HUB_NAMES.get(base, base), "dataset_name": str(row["data"]),
        "dataset_config": f"{row['suite']}: {what}{settings}", "dataset_args": {"evaluated_with": f"robustvit {__version__}", **context},
        "metric_type": METRIC_TYPES.get(row["metric"], row["metric"]), "metric_name": row["metric"],
        "metric_value": round(float(row["value"]), 6), "metric_args": {"unit": row["unit"], **interval, "n": int(row["n"])},
    }  # fmt: skip
