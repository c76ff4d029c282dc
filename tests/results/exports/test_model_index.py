"""model-index as huggingface_hub reads it back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from robustvit.errors import MissingExtra
from robustvit.records.store import Store
from robustvit.results.export import export
from robustvit.results.exports.model_index import public_command
from robustvit.results.leaderboard import Leaderboard, build_leaderboard

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def board(make_store: Make, answered: Columns) -> Leaderboard:
    cells: dict[Any, Any] = {("a", "clean", ""): answered([True] * 9 + [False]), ("a", "fog", "1"): answered([True] * 5 + [False] * 5)}
    cells |= {("a", "fog", "2"): answered([True] * 4), ("a", "fog", "3"): None}
    return build_leaderboard(make_store(cells, metrics=["top1", "nll"], data="imagenet", asked=10))


def read_back(text: str) -> tuple[str, list[EvalResult]]:
    card = ModelCard(f"---\n{text}---\n# A card\n")
    assert card.data.eval_results is not None
    assert model_index_to_eval_results(yaml.safe_load(text)["model-index"])[1] == card.data.eval_results
    return str(card.data.model_name), card.data.eval_results


def test_every_complete_number_comes_back(board: Leaderboard) -> None:
    name, results = read_back(export(board, "model-index"))
    complete = board.rows[board.rows["status"] == "complete"]
    assert name == "a"
    assert [one.metric_value for one in results] == [pytest.approx(value, abs=1e-6) for value in complete["value"]]
    assert {(one.dataset_config, one.metric_name) for one in results} == {
        (f"made-up: {scenario}", metric) for scenario in ("clean", "fog 1") for metric in ("top1", "nll")
    }


def test_a_result_has_its_interval_its_n_and_its_settings(board: Leaderboard) -> None:
    (first, *_), row = read_back(export(board, "model-index"))[1], board.rows.iloc[0]
    assert (first.task_type, first.dataset_type, first.dataset_name) == ("image-classification", "imagenet-1k", "imagenet")
    assert (first.metric_type, first.metric_name) == ("accuracy", "top1")
    assert first.metric_args == {"unit": "%", "low": pytest.approx(row["low"]), "high": pytest.approx(row["high"]), "n": 10}
    assert first.dataset_args is not None
    assert first.dataset_args["evaluated_with"].startswith("robustvit ")
    assert first.dataset_args["command"] == "robustvit run --model demo"


def test_models_have_a_file_each(board: Leaderboard, tmp_path: Path) -> None:
    import pandas as pd

    rows = pd.concat([board.rows, board.rows.assign(model="b/c", transforms="tome(r=8)")])
    export(replace(board, rows=rows), "model-index", tmp_path)
    assert {path.name: read_back(path.read_text())[0] for path in tmp_path.glob("*.yaml")} == {
        "a.yaml": "a",
        "b_c+tome_r_8.yaml": "b/c+tome(r=8)",
    }


def test_without_huggingface_hub_it_is_one_line(board: Leaderboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"^a model-index needs huggingface_hub: python3 -m pip install huggingface-hub\.$"):
        export(board, "model-index")


def test_a_command_names_no_place_of_this_machine() -> None:
    assert public_command("robustvit run -m a --store '/tmp/a b' --data-dir /data --limit 2") == "robustvit run -m a --limit 2"
    given = "robustvit run -m 'file:/home/me/my nets/vit.safetensors?arch=vit/x&mean=0.5+tome(r=2)' -m hf/org/name --data folder:pics/val"
    expected = "robustvit run -m 'file:vit.safetensors?arch=vit/x&mean=0.5+tome(r=2)' -m hf/org/name --data folder:val"
    assert public_command(given) == expected
