"""lm-evaluation-harness's files: its published schema, and what its own readers do with names and keys.

Schema: EleutherAI/lm-evaluation-harness at 4e7e0d4 (MIT): the TypedDicts of lm_eval/result_schema.py, the names of files of
lm_eval/utils.py and lm_eval/loggers/evaluation_tracker.py, the look-ups of make_table in lm_eval/utils.py.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustvit.errors import UsageError
from robustvit.records.store import Store
from robustvit.results.export import export
from robustvit.results.leaderboard import Leaderboard, build_leaderboard

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
NONE = type(None)
RESULTS: dict[str, tuple[type, ...]] = {  # EvalResults: each key is optional
    "results": (dict,), "groups": (dict,), "group_subtasks": (dict,), "configs": (dict,), "versions": (dict,), "n-shot": (dict,),
    "higher_is_better": (dict,), "n-samples": (dict,), "samples": (dict,), "config": (dict,), "git_hash": (str,), "date": (float,),
    "model_source": (str,), "model_name": (str,), "model_name_sanitized": (str,), "task_hashes": (dict,),
    "total_evaluation_time_seconds": (str,),
}  # fmt: skip
CONFIG: dict[str, tuple[type, ...]] = {  # _EvalConfig
    "model": (str,), "model_args": (str, dict, NONE), "model_num_parameters": (int,), "model_dtype": (str,), "model_revision": (str,),
    "model_sha": (str,), "batch_size": (str, NONE), "batch_sizes": (list,), "device": (str, NONE), "use_cache": (str, NONE),
    "limit": (int, float, NONE), "bootstrap_iters": (int,), "gen_kwargs": (str, dict, NONE), "random_seed": (int,), "numpy_seed": (int,),
    "torch_seed": (int,), "fewshot_seed": (int,),
}  # fmt: skip
SAMPLE: dict[str, type] = {  # SampleResult: all of these, and a number for each name in metrics
    "doc_id": int, "doc": dict, "target": str, "arguments": dict, "resps": list, "filtered_resps": list, "filter": str, "metrics": list,
    "doc_hash": str, "prompt_hash": str, "target_hash": str,
}  # fmt: skip


@pytest.fixture
def board(make_store: Make, answered: Columns) -> Leaderboard:
    cells: dict[Any, Any] = {("org/a", "clean", ""): answered([True] * 9 + [False])}
    cells |= {("org/a", "fog", str(level)): answered([True] * 5 + [False] * 5) for level in range(1, 6)}
    cells |= {("org/a", "rollout", ""): {"sample": ["s0"], "value_distance": [0.5]}}
    metrics = ["top1", "nll", "corruption_error", "mean_corruption_error"]
    return build_leaderboard(make_store(cells, metrics=metrics, started="2026-01-02T03:04:05.678+00:00"))


@pytest.fixture
def folder(board: Leaderboard, tmp_path: Path) -> Path:
    assert export(board, "lm-eval", tmp_path / "out") == ""
    return tmp_path / "out"


def results(folder: Path) -> dict[str, Any]:
    (path,) = (path for path in folder.rglob("*.json") if "/results_" in str(path))
    page: dict[str, Any] = json.loads(path.read_text())
    return page


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    (path,) = (path for path in folder.rglob("*.jsonl") if path.name[path.name.find("_") + 1 : path.name.rfind("_")] == task)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_results_have_the_schema(folder: Path) -> None:
    page = results(folder)
    own = {"robustvit_version"}
    assert set(page) - own <= set(RESULTS)
    assert all(isinstance(value, RESULTS[key]) for key, value in page.items() if key not in own)
    assert all(isinstance(value, CONFIG[key]) for key, value in page["config"].items())
    for task, numbers in page["results"].items():
        assert isinstance(numbers["alias"], str)
        assert isinstance(numbers["sample_len"], int)
        assert all(isinstance(value, float) and "," in key for key, value in numbers.items() if key not in ("alias", "sample_len"))
        assert page["n-samples"][task].keys() == {"original", "effective"}


def test_numbers_are_fractions_with_standard_errors(board: Leaderboard, folder: Path) -> None:
    clean = results(folder)["results"]["made-up_clean"]
    row = board.rows.iloc[0]
    assert clean["acc,none"] == pytest.approx(0.9)
    assert clean["acc_stderr,none"] == pytest.approx((row["high"] - row["low"]) / 100 / (2 * 1.959964), rel=1e-5)
    assert clean["nll,none"] == pytest.approx(board.rows.iloc[1]["value"])
    group = results(folder)["groups"]["made-up"]
    assert group["mean_corruption_error,none"] == group["fog corruption_error,none"] == pytest.approx(0.5)


def test_its_table_finds_every_key(folder: Path) -> None:
    page = results(folder)
    for column in ("results", "groups"):
        for name, numbers in page[column].items():
            assert column == "groups" or page["versions"][name] == 1
            assert column == "groups" or page["n-shot"][name] == 0
            metrics = [key for key in numbers if key not in ("alias", "sample_len")]
            for key in metrics:
                metric, _, filtered = key.partition(",")
                assert filtered == "none"
                assert metric.endswith("_stderr") or math.isfinite(numbers[f"{metric}_stderr,none"])
    assert page["higher_is_better"]["made-up_clean"] == {"acc": True, "nll": False}
    assert set(page["group_subtasks"]["made-up"]) == set(page["results"])


def test_samples_have_the_schema_and_average_to_the_result(folder: Path) -> None:
    lines = samples(folder, "made-up_fog_1")
    assert len(lines) == 10
    for place, line in enumerate(lines):
        assert {key: type(line[key]) for key in SAMPLE} == SAMPLE
        assert line["doc_id"] == place
        assert all(isinstance(line[name], float) for name in line["metrics"])
        assert set(line) == set(SAMPLE) | set(line["metrics"])
        assert line["target_hash"] == hashlib.sha256(line["target"].encode()).hexdigest()
    numbers = results(folder)["results"]["made-up_fog_1"]
    for name in ("acc", "nll"):
        assert sum(line[name] for line in lines) / 10 == pytest.approx(numbers[f"{name},none"], rel=1e-5)


def test_hashes_of_tasks_are_those_of_their_samples(folder: Path) -> None:
    for task, found in results(folder)["task_hashes"].items():
        texts = [line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in samples(folder, task)]
        assert found == hashlib.sha256("".join(texts).encode()).hexdigest()


def test_files_have_the_names_that_it_looks_for(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    sanitised = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", "org/a")
    assert [name for name in files if "/results_" in name and ".json" in name] == [f"{sanitised}/results_2026-01-02T03-04-05.678.json"]
    lines = [name for name in files if "/samples_" in name]
    assert len(lines) == 6  # an analysis has no predictions
    assert {name[name.rfind("_") + 1 :].replace(".jsonl", "") for name in lines} == {"2026-01-02T03-04-05.678"}


def test_a_label_leads_to_no_other_folder(make_store: Make, answered: Columns, tmp_path: Path) -> None:
    board = build_leaderboard(make_store({("..", "clean", ""): answered([True] * 4)}, name="dots"))
    export(board, "lm-eval", tmp_path / "in" / "out")
    assert {path.parent for path in tmp_path.rglob("results_*")} == {tmp_path / "in" / "out" / "model"}


def test_a_board_without_a_store_is_refused(board: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was not made from a store"):
        export(replace(board, store=None), "lm-eval", tmp_path)


def test_datasets_opens_the_samples(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    paths = [str(path) for path in folder.rglob("samples_made-up_fog_*.jsonl")]
    found = datasets.load_dataset("json", data_files=paths, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(found) == 50
    assert sum(found["acc"]) == 25
