"""A small ViT over all seventeen sets of model-vs-human in the layout of the release, and the leaderboard it gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from model_vs_human import plant_clone

from robustvit.data.model_vs_human import categories
from robustvit.errors import UsageError
from robustvit.evaluation import run as runner
from robustvit.metrics.model_vs_human import SETS
from robustvit.records.store import load_records
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary

TINY = "vit_tiny_patch16_224?weights=random&kwargs=depth=1,embed_dim=24,num_heads=2"
AVERAGES = ["ood_accuracy", "mean_accuracy_difference", "mean_observed_consistency", "mean_error_consistency"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def store(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    runner.run("human-alignment", [TINY], store=place, data_dir=clone)
    return place


@pytest.fixture(scope="module")
def board(store: Path) -> pd.DataFrame:
    return leaderboard(store)


def test_every_set_is_a_cell_with_an_accuracy(board: pd.DataFrame) -> None:
    found = board[board["metric"] == "condition_accuracy"]
    assert list(found["scenario"]) == list(SETS)
    assert set(found["status"]) == {"complete"}
    assert set(found["base"]) == {"model-vs-human"}
    assert set(found["view"]) == {"224x224, center, bicubic"}


def test_the_averages_stand_on_all_seventeen_sets(board: pd.DataFrame) -> None:
    averages = board[board["cell"] == ""].set_index("metric")
    assert list(averages.index) == AVERAGES
    assert set(averages["status"]) == {"complete"}
    for joint, of in zip(AVERAGES, ("condition_accuracy", *(name.removeprefix("mean_") for name in AVERAGES[1:])), strict=True):
        assert averages.loc[joint, "value"] == pytest.approx(board.loc[board["metric"] == of, "value"].mean(), abs=1e-12)


def test_only_cue_conflicts_have_a_shape_bias(board: pd.DataFrame) -> None:
    found = board[board["metric"].isin(["shape_bias", "shape_decisions", "texture_decisions"])]
    assert set(found["scenario"]) == {"cue-conflict"}
    assert len(found) == 3


def test_the_rows_hold_the_responses_of_people(store: Path) -> None:
    rows = {question.scenario: frame for question, frame in load_records(store)}
    edge = rows["edge"].sort_values("sample")
    assert [list(given) for given in edge["fact_humans"]] == [[-1, 0, 0], [1, 1, -1], [7, -1, 7]]
    assert set(rows["edge"]["fact_condition"]) == {""}
    assert sorted(rows["contrast"]["fact_counted"]) == [0, 1, 1]
    assert np.isin(rows["cue-conflict"]["pred"], range(len(categories()))).all()


def test_the_summary_is_one_row_of_averages(board: pd.DataFrame) -> None:
    found = summary(board)
    assert len(found) == 1
    assert {*AVERAGES, "shape_bias", "shape_decisions", "texture_decisions"} <= set(found.columns)
    assert len(found.columns) < 14


def test_without_peoples_responses_the_averages_say_what_is_missing(clone: Path, tmp_path: Path) -> None:
    shutil.copytree(clone / "datasets", tmp_path / "datasets")
    runner.run("human-alignment", [TINY], store=tmp_path / "s", data_dir=tmp_path)
    board = leaderboard(tmp_path / "s").set_index("metric")
    assert board.loc["ood_accuracy", "status"] == "complete"
    assert board.loc["error_consistency", "status"] == "undefined"
    assert board.loc["mean_error_consistency", "status"] == "partial"
    assert "0 of 17 cells" in str(board.loc["mean_error_consistency", "reason"])
    assert "fact_humans" in str(board.loc["mean_error_consistency", "reason"])


def test_the_suite_is_about_its_own_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --data out"):
        runner.run("human-alignment", [TINY], data="digits", store=tmp_path)
