"""Which quantity the report draws against cost, and for whom."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.report.page import render
from robustvit.report.pareto import pictures
from robustvit.results.leaderboard import Leaderboard, build_leaderboard

MODELS = ("demo", "rival", "third")


def row(
    model: str, metric: str, value: float, scenario: str = "", severity: str = "", data: str = "digits", better: bool = True
) -> dict[str, Any]:
    about = {
        "cell": scenario and f"{model} {scenario} {severity}",
        "unit": "%",
        "higher_is_better": better,
        "low": value - 1,
        "high": value + 1,
    }
    place = {"scenario": scenario, "severity": severity, "data": data}
    return {"model": model, "metric": metric, "value": value, **place, **about}


@pytest.fixture
def board(make_store: Callable[..., Store], answered: Callable[..., Any]) -> Callable[..., Leaderboard]:
    """A board of given rows of three models of known size."""
    found = build_leaderboard(make_store({(model, "clean", ""): answered([True, False]) for model in MODELS}))

    def made(*rows: dict[str, Any]) -> Leaderboard:
        more = (found.rows[found.rows["model"] == one["model"]].assign(**one) for one in rows)
        return replace(found, rows=pd.concat([found.rows, *more], ignore_index=True))

    return made


def test_a_clean_accuracy_and_a_gap_are_never_drawn(board: Callable[..., Leaderboard]) -> None:
    gaps = [row(model, "accuracy_gap", 10.0, better=False) for model in MODELS]
    originals = [row(model, "top1", 50.0, "original") for model in MODELS]
    assert pictures(board(*gaps, *originals)) == ()


def test_an_average_is_drawn_rather_than_an_attack_or_another_set(board: Callable[..., Leaderboard]) -> None:
    averages = [row(model, "shift_auc", 40.0) for model in MODELS]
    others = [
        one
        for m in MODELS
        for one in (row(m, "robust_accuracy", 20.0, "pgd", "4/255"), row(m, "top1", 30.0, "imagenet-a", data="imagenet-a"))
    ]
    assert [picture.score for picture in pictures(board(*others, *averages))] == ["shift_auc"]
    assert [picture.score for picture in pictures(board(*others))] == ["pgd 4/255"]
    assert [picture.score for picture in pictures(board(*others[1::2]))] == ["imagenet-a"]


def test_what_an_analysis_measured_is_drawn_rather_than_an_accuracy_on_the_base_data(board: Callable[..., Leaderboard]) -> None:
    rows = [one for m in MODELS for one in (row(m, "challenge_accuracy", 40.0, "background_challenge"), row(m, "top1", 90.0, "original"))]
    (picture,) = pictures(board(*rows))
    assert picture.score == "background_challenge challenge_accuracy"


def test_models_without_the_score_are_left_out_and_named(board: Callable[..., Leaderboard], store: Store) -> None:
    asked = board(*(row(model, "shift_auc", 40.0) for model in MODELS[:2]))
    (picture,) = pictures(asked)
    assert (picture.score, picture.left_out) == ("shift_auc", ("third (no shift_auc)",))
    assert "Not shown: third (no shift_auc)." in render(asked, store)
