"""The factor view of the published models and of a store."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from robustvit.records.manifest import ModelFacts
from robustvit.records.store import Store
from robustvit.results.factors.view import FactorView, factor_view
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.statistics.intervals import wilson

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def published() -> FactorView:
    return factor_view()


@pytest.fixture
def board(make_store: Make, answered: Columns) -> Leaderboard:
    """A model, clean, in fog and under two attacks; its card has everything."""
    cells = {("mine", "clean", ""): answered([True] * 15 + [False] * 5), ("mine", "fog", "1"): answered([True] * 10 + [False] * 10)}
    attacks = {("mine", "pgd", eps): answered([True] * 4 + [False] * 16, attacked=[True] * 20) for eps in ("1/255", "2/255")}
    made = build_leaderboard(make_store({**cells, **attacks}, metrics=["top1", "mean_corruption_error", "robust_accuracy", "ece"]))
    identity = "timm(arch=deit_tiny_patch16_224.fb_in1k, num_classes=1000)"
    return with_card(made, replace(made.cards["mine"], identity=identity, macs=1_253_683_200))


def with_card(board: Leaderboard, card: ModelFacts) -> Leaderboard:
    return replace(board, cards={"mine": card})


def with_rows(board: Leaderboard, rows: pd.DataFrame) -> Leaderboard:
    return replace(board, rows=rows)


def test_the_published_view_has_the_49_models_of_timms_table(published: FactorView) -> None:
    assert len(published.rows) == 49
    assert list(published.scores) == [
        "clean", "top1_real", "imagenet-v2-matched-frequency", "imagenet-a", "imagenet-r", "imagenet-sketch",
    ]  # fmt: skip
    assert published.rows[["macs", "parameters", "clean", *published.scores]].notna().all().all()
    assert (published.rows["pretraining"] != "unknown").all()


def test_more_pretraining_data_is_seen_in_the_augreg_pair(published: FactorView) -> None:
    pair = published.rows.set_index("tag").loc[["vit_base_patch16_224.augreg_in21k_ft_in1k", "vit_base_patch16_224.augreg_in1k"]]
    assert list(pair["pretraining"]) == ["in21k", "in1k"]
    assert pair["imagenet-a"].round(1).tolist() == [43.1, 14.9]
    assert pair["imagenet-r"].round(1).tolist() == [56.9, 38.1]


def test_published_accuracies_have_wilsons_intervals(published: FactorView) -> None:
    one = published.rows.set_index("tag").loc["deit_tiny_patch16_224.fb_in1k"]
    low, high = wilson(0.07213 * 7500, 7500)
    assert (one["imagenet-a_low"], one["imagenet-a_high"]) == pytest.approx((100 * low, 100 * high), abs=1e-3)


def test_a_store_gives_a_row_with_factors_costs_and_scores(board: Leaderboard) -> None:
    (row,) = factor_view(board).rows.to_dict("records")
    assert (row["recipe"], row["patch"], row["macs"], row["parameters"], row["img_size"]) == ("deit", 16, 1_253_683_200, 5_700_000, 32)
    assert (row["clean"], row["pgd 1/255"], row["pgd 2/255"], row["mean_corruption_error"]) == (75.0, 20.0, 20.0, 50.0)
    assert row["clean_low"] < 75 < row["clean_high"]
    assert "fog 1" not in row


def test_a_view_says_in_which_direction_its_scores_are_better(board: Leaderboard) -> None:
    assert factor_view(board).scores == {"clean": True, "pgd 1/255": True, "pgd 2/255": True, "mean_corruption_error": False}


def test_numbers_of_one_name_have_their_suites_in_their_names(board: Leaderboard) -> None:
    other = board.rows.assign(suite="another", value=board.rows["value"] / 2)
    both = with_rows(board, pd.concat([board.rows, other]))
    assert [name for name in factor_view(both).scores if "clean" in name] == ["clean (made-up)", "clean (another)"]


def test_an_untagged_model_is_known_by_its_architecture_alone(board: Leaderboard) -> None:
    card = ModelFacts(identity="timm(arch=vit_tiny_patch16_224, kwargs=depth=4,patch_size=8, mean=[0.5])")
    (row,) = factor_view(with_card(board, card)).rows.to_dict("records")
    assert (row["tag"], row["family"], row["patch"], row["recipe"]) == ("", "vit", 8, "unknown")


def test_a_checkpoint_named_like_augregs_has_its_recipe(board: Leaderboard) -> None:
    name = "B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1.npz"
    card = ModelFacts(identity="timm(arch=vit_base_patch16_224)", source=name)
    (row,) = factor_view(with_card(board, card)).rows.to_dict("records")
    assert (row["recipe"], row["augmentation"], row["dropout"]) == ("augreg", "strong2", 0.1)


def test_random_weights_are_marked(board: Leaderboard) -> None:
    random = with_rows(board, board.rows.assign(weights="random"))
    assert factor_view(random).rows["model"].tolist() == ["mine (random weights)"]


def test_what_an_analysis_measured_is_a_score(board: Leaderboard) -> None:
    place = {"scenario": "background_challenge", "metric": "challenge_accuracy", "severity": "", "value": 40.0}
    more = pd.concat([board.rows, board.rows[board.rows["scenario"] == "clean"].assign(**place)])
    (row,) = factor_view(with_rows(board, more)).rows.to_dict("records")
    assert row["background_challenge challenge_accuracy"] == 40.0
