"""timm's results tables, read as results/generate_csv_results.py reads them: huggingface/pytorch-image-models at aa4b585, Apache-2.0."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import timm

from robustvit.records.manifest import ModelFacts
from robustvit.records.store import Store
from robustvit.results.export import export
from robustvit.results.leaderboard import Leaderboard, build_leaderboard

HEADER = ["model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation"]  # results-imagenet.csv


@pytest.fixture
def board(make_store: Callable[..., Store], answered: Callable[..., dict[str, Any]]) -> Leaderboard:
    cells = {("a", "clean", ""): answered([True] * 9 + [False]), ("b", "clean", ""): answered([True] * 19 + [False])}
    return build_leaderboard(make_store(cells, metrics=["top1", "top5"]))


def table(board: Leaderboard) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(export(board, "timm")))


def test_columns_are_timms_with_the_number_of_images_beside(board: Leaderboard) -> None:
    found = table(board)
    assert list(found.columns) == [*HEADER, "n"]
    assert found.iloc[1].to_list() == ["a", 32, 90.0, 10.0, 100.0, 0.0, 5.7, 0.889, "bicubic", 10]
    assert list(found["n"]) == [20, 10]


def test_what_timm_does_with_its_tables_works(board: Leaderboard) -> None:
    base = table(board)
    base = base.sort_values(["top1", "top5", "model"], ascending=[False, False, True])
    base["mi"] = base.model + "-" + base.img_size.astype("str")
    assert list(base["mi"]) == ["b-32", "a-32"]
    assert list(base["param_count"].map("{:,.2f}".format)) == ["5.70", "5.70"]


def test_pretrained_weights_have_timms_name_with_its_tag(board: Leaderboard) -> None:
    card = ModelFacts(identity="timm(arch=vit_tiny_patch16_224)", tag="augreg_in21k_ft_in1k", parameters=5_717_416)
    (name,) = (one for one in table(replace(board, cards={"a": card}))["model"] if one != "b")
    assert name == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert timm.get_pretrained_cfg(name) is not None


def test_a_transformed_model_is_not_called_by_its_tag(board: Leaderboard) -> None:
    card = ModelFacts(identity="timm(arch=vit_tiny_patch16_224)", tag="augreg_in21k_ft_in1k")
    rows = board.rows.assign(transforms=["tome(r=8)" if model == "a" else "" for model in board.rows["model"]])
    assert "a → tome(r=8)" in set(table(replace(board, rows=rows, cards={"a": card}))["model"])
