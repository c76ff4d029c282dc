"""lm-evaluation-harness's results: `results_DATE.json` of each model, and its samples, one JSON object a line.

Names and keys are those of EleutherAI/lm-evaluation-harness at 4e7e0d4 (MIT licence): lm_eval/result_schema.py and
lm_eval/loggers/evaluation_tracker.py. A cell is a task, a suite a group.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from robustvit.errors import UsageError
from robustvit.records.cells import StoredCell, rows_of, stored_cells
from robustvit.records.manifest import Manifest, ModelFacts
from robustvit.records.store import Store
from robustvit.results.exports.formats import ExportFiles, export_format
from robustvit.results.leaderboard import Leaderboard
from robustvit.statistics.intervals import Z
from robustvit.version import __version__

METRICS = {"top1": "acc"}
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_SCORES = ("nll", "brier", "confidence")  # of a sample, beside whether it is right


@export_format(folder=True)
def harness_results(board: Leaderboard) -> ExportFiles:
    """`MODEL/results_DATE.json` and `MODEL/samples_TASK_DATE.jsonl`, DATE that of the model's last run.

    Shares in % become fractions, `top1` is `acc`, and a standard error is the half of the 95 % interval over 1.96. The samples of a cell
    have the image's id in `doc`, its label in `target`, the prediction in `resps`; cells without predictions have no samples. Raises
    UsageError for a leaderboard without its store.
    """
    if board.store is None:
        raise UsageError("lm-eval: this leaderboard was not made from a store, which has the samples; build_leaderboard makes one.")
    manifests = board.store.manifests()
    files: dict[str, str] = {}
    for (model, transforms), part in board.rows.groupby(["model", "transforms"], sort=False):
        label = f"{model}+{transforms}" if transforms else str(model)
        folder = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", label).lstrip(".") or "model"
        runs = [one for one in manifests if model in one.models] or manifests
        tasks = _tasks(part)
        samples = dict(_samples(board.store, str(model), str(transforms), tasks))
        page = _results(label, folder, part, tasks, samples, runs, board.cards.get(str(model), ModelFacts()))
        date = _date(runs)
        files[f"{folder}/results_{date}.json"] = json.dumps(page, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        for task, lines in samples.items():
            files[f"{folder}/samples_{task}_{date}.jsonl"] = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
    return files


def _tasks(part: pd.DataFrame) -> dict[str, str]:
    """The name of each cell's task: suite, scenario and severity, and the beginning of the cell's id where several have the same."""
    cells = part[part["cell"] != ""].drop_duplicates("cell")
    names = {row.cell: _word(f"{row.suite}_{row.scenario}_{row.severity}") for row in cells.itertuples()}
    alike = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {str(cell): f"{name}_{str(cell)[:8]}" if name in alike else name for cell, name in names.items()}


def _word(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("_-.")[:120]


def _date(runs: Sequence[Manifest]) -> str:
    times = [one.finished or one.started for one in runs]
    return max(times, default="").partition("+")[0].replace(":", "-") or "undated"


def _results(
    label: str, folder: str, part: pd.DataFrame, tasks: Mapping[str, str], samples: Mapping[str, Sequence[Mapping[str, Any]]],
    runs: Sequence[Manifest], card: ModelFacts,
) -> dict[str, Any]:  # fmt: skip
    """The object of a results file: EvalResults in lm_eval/result_schema.py."""
    first: dict[str, dict[Any, Any]] = {row["cell"]: row for row in part[part["cell"] != ""].drop_duplicates("cell").to_dict("records")}
    names = [(cell, row, tasks[cell]) for cell, row in first.items()]
    suites = list(dict.fromkeys(part["suite"]))
    versions = {one.suite.name: one.suite.version for one in runs}
    groups = {suite: _metrics(part[(part["suite"] == suite) & (part["cell"] == "")]) for suite in suites}
    data = {facts.label: facts.n for one in runs for facts in one.data.values()}
    started = min((one.started for one in runs if one.started), default="")
    return {
        "results": {
            task: {"alias": task, "sample_len": int(row["n"]), **_metrics(part[part["cell"] == cell])} for cell, row, task in names
        },
        "groups": {suite: {"alias": suite, **numbers} for suite, numbers in groups.items() if numbers},
        "group_subtasks": {suite: [task for _, row, task in names if row["suite"] == suite] for suite in suites},
        "configs": {
            task: {
                "task": task, "dataset_path": row["data"], "dataset_name": row["base"], "output_type": "image-classification",
                **{name: row[name] for name in ("scenario", "severity", "params", "view", "source")},
            }
            for _, row, task in names
        },
        "versions": {task: versions.get(row["suite"]) for _, row, task in names},
        "n-shot": dict.fromkeys(tasks.values(), 0),
        "higher_is_better": {task: _directions(part[part["cell"] == cell]) for cell, _, task in names},
        "n-samples": {task: {"original": data.get(row["data"], row["n"]), "effective": int(row["n"])} for _, row, task in names},
        "config": {
            "model": "robustvit", "model_args": card.identity or label, "model_num_parameters": card.parameters,
            "model_dtype": ", ".join(dict.fromkeys(part["precision"])), "model_revision": card.tag, "model_sha": card.fingerprint,
            "batch_size": None, "device": None, "limit": runs[-1].limit if runs else None, "random_seed": int(part["seed"].iloc[0]),
        },
        "date": datetime.fromisoformat(started).timestamp() if started else 0.0,
        "robustvit_version": __version__, "model_source": "robustvit", "model_name": label, "model_name_sanitized": folder,
        "task_hashes": {task: _hash("".join(one[name] for one in lines for name in _HASHES)) for task, lines in samples.items()},
        "total_evaluation_time_seconds": str(round(sum(float(row["seconds"]) for row in first.values()), 3)),
    }  # fmt: skip


def _metrics(rows: pd.DataFrame) -> dict[str, float]:
    """`acc,none` and `acc_stderr,none` of every complete number; an average of one scenario has its name before the metric's."""
    found: dict[str, float] = {}
    for row in rows[(rows["status"] == "complete") & rows["value"].notna()].to_dict("records"):
        scale = 0.01 if row["unit"] == "%" else 1.0
        name = _metric_name(row)
        found[f"{name},none"] = scale * float(row["value"])
        if not math.isnan(row["low"]) and not math.isnan(row["high"]):
            found[f"{name}_stderr,none"] = scale * (float(row["high"]) - float(row["low"])) / (2 * Z)
    return found


def _metric_name(row: Mapping[Any, Any]) -> str:
    name = METRICS.get(row["metric"], str(row["metric"]).replace(",", ";"))
    return f"{row['scenario']} {name}" if row["scenario"] and not row["cell"] else name


def _directions(rows: pd.DataFrame) -> dict[str, bool]:
    return {_metric_name(row): bool(row["higher_is_better"]) for row in rows.to_dict("records") if row["metric"]}


def _samples(store: Store, model: str, transforms: str, tasks: Mapping[str, str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The samples of each task of a model whose rows are predictions."""
    for one in stored_cells(store, None, [model]):
        question = one.question
        if question.cell in tasks and question.transforms == transforms:
            rows = rows_of(store, question).rows
            if len(rows) and {"label", "pred"} <= set(rows.columns):
                yield tasks[question.cell], [_sample(place, row, one) for place, row in enumerate(rows.to_dict("records"))]


def _sample(place: int, row: Mapping[Any, Any], cell: StoredCell) -> dict[str, Any]:
    """One line: SampleResult in lm_eval/result_schema.py, its texts as the harness writes them."""
    image, label, pred = str(row["sample"]), str(int(row["label"])), str(int(row["pred"]))
    doc = {"id": image, "label": int(label)}
    prompt = " ".join(part for part in (cell.question.scenario, cell.question.severity, cell.question.params) if part)
    scores = {"acc": float(pred == label)} | {name: float(row[name]) for name in _SCORES if name in row}
    hashes = dict(zip(_HASHES, map(_hash, (json.dumps(doc, indent=2, ensure_ascii=False), image, label)), strict=True))
    return {
        "doc_id": place, "doc": doc, "target": label, "arguments": {"gen_args_0": {"arg_0": image, "arg_1": prompt}}, "resps": [[pred]],
        "filtered_resps": [pred], "filter": "none", "metrics": list(scores), **hashes, **scores,
    }  # fmt: skip


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
