"""The factor view of the published models and of a store."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from robustvit.errors import UsageError
from robustvit.records.store import Store
from robustvit.results.factors.view import factor_view
from robustvit.results.leaderboard import leaderboard
from robustvit.statistics.intervals import wilson

Make = Callable[..., Store]
Answer = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return factor_view()


@pytest.fixture
def board(make_store: Make, answered: Answer) -> pd.DataFrame:
    """A model, clean, in fog and under two attacks; its card tells everything."""
    cells = {("mine", "clean", ""): answered([True] * 15 + [False] * 5), ("mine", "fog", "1"): answered([True] * 10 + [False] * 10)}
    attacks = {("mine", "pgd", eps): answered([True] * 4 + [False] * 16, attacked=[True] * 20) for eps in ("1/255", "2/255")}
    made = leaderboard(make_store({**cells, **attacks}, metrics=["top1", "mean_corruption_error", "robust_accuracy", "ece"]))
    made.attrs["models"]["mine"] |= {"identity": "timm(arch=deit_tiny_patch16_224.fb_in1k, num_classes=1000)", "macs": 1_253_683_200}
    return made


def test_the_published_view_has_the_49_models_of_timms_table(published: pd.DataFrame) -> None:
    assert len(published) == 49
    assert list(published.attrs["scores"]) == [
        "clean", "top1_real", "imagenet-v2-matched-frequency", "imagenet-a", "imagenet-r", "imagenet-sketch",
    ]  # fmt: skip
    assert published[["macs", "parameters", "clean", *published.attrs["scores"]]].notna().all().all()
    assert (published["pretraining"] != "unknown").all()


def test_more_pretraining_data_is_seen_in_the_augreg_pair(published: pd.DataFrame) -> None:
    pair = published.set_index("tag").loc[["vit_base_patch16_224.augreg_in21k_ft_in1k", "vit_base_patch16_224.augreg_in1k"]]
    assert list(pair["pretraining"]) == ["in21k", "in1k"]
    assert pair["imagenet-a"].round(1).tolist() == [43.1, 14.9]
    assert pair["imagenet-r"].round(1).tolist() == [56.9, 38.1]


def test_published_accuracies_have_wilsons_intervals(published: pd.DataFrame) -> None:
    one = published.set_index("tag").loc["deit_tiny_patch16_224.fb_in1k"]
    low, high = wilson(0.07213 * 7500, 7500)
    assert (one["imagenet-a_low"], one["imagenet-a_high"]) == pytest.approx((100 * low, 100 * high), abs=1e-3)


def test_a_store_gives_a_row_with_factors_costs_and_scores(board: pd.DataFrame) -> None:
    (row,) = factor_view(board).to_dict("records")
    assert (row["recipe"], row["patch"], row["macs"], row["parameters"], row["img_size"]) == ("deit", 16, 1_253_683_200, 5_700_000, 32)
    assert (row["clean"], row["pgd 1/255"], row["pgd 2/255"], row["mean_corruption_error"]) == (75.0, 20.0, 20.0, 50.0)
    assert row["clean_low"] < 75 < row["clean_high"]
    assert "fog 1" not in row


def test_a_view_says_in_which_direction_its_scores_are_better(board: pd.DataFrame) -> None:
    assert factor_view(board).attrs["scores"] == {"clean": True, "pgd 1/255": True, "pgd 2/255": True, "mean_corruption_error": False}


def test_numbers_of_one_name_are_told_apart_by_their_suites(board: pd.DataFrame) -> None:
    other = board.copy()
    other.loc[:, "suite"], other["value"] = "another", other["value"] / 2
    both = pd.concat([board, other])
    both.attrs = board.attrs
    assert [name for name in factor_view(both).attrs["scores"] if "clean" in name] == ["clean (made-up)", "clean (another)"]


def test_an_untagged_model_is_known_by_its_architecture_alone(board: pd.DataFrame) -> None:
    board.attrs["models"]["mine"] = {"identity": "timm(arch=vit_tiny_patch16_224, kwargs=depth=4,patch_size=8, mean=[0.5])"}
    (row,) = factor_view(board).to_dict("records")
    assert (row["tag"], row["family"], row["patch"], row["recipe"]) == ("", "vit", 8, "unknown")


def test_a_checkpoint_named_like_augregs_tells_its_recipe(board: pd.DataFrame) -> None:
    name = "B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1.npz"
    board.attrs["models"]["mine"] = {"identity": "timm(arch=vit_base_patch16_224)", "source": name}
    (row,) = factor_view(board).to_dict("records")
    assert (row["recipe"], row["augmentation"], row["dropout"]) == ("augreg", "strong2", 0.1)


def test_random_weights_are_marked(board: pd.DataFrame) -> None:
    board["weights"] = "random"
    assert factor_view(board)["model"].tolist() == ["mine (random weights)"]


def test_a_board_without_cards_is_refused() -> None:
    with pytest.raises(UsageError, match="models' cards"):
        factor_view(pd.DataFrame({"cell": []}))


def test_what_an_analysis_measured_is_a_score(board: pd.DataFrame) -> None:
    place = {"scenario": "background_challenge", "metric": "challenge_accuracy", "severity": "", "value": 40.0}
    more = pd.concat([board, board[board["scenario"] == "clean"].assign(**place)])
    more.attrs = board.attrs
    (row,) = factor_view(more).to_dict("records")
    assert row["background_challenge challenge_accuracy"] == 40.0
