"""Which score the report plots against cost, and for which models."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.report.cost_plots import cost_plots
from robustvit.report.page import render
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
    """A leaderboard of given rows of three models of known size."""
    found = build_leaderboard(make_store({(model, "clean", ""): answered([True, False]) for model in MODELS}))

    def made(*rows: dict[str, Any]) -> Leaderboard:
        more = (found.rows[found.rows["model"] == one["model"]].assign(**one) for one in rows)
        return replace(found, rows=pd.concat([found.rows, *more], ignore_index=True))

    return made


def test_a_clean_accuracy_and_a_gap_are_never_plotted(board: Callable[..., Leaderboard]) -> None:
    gaps = [row(model, "accuracy_gap", 10.0, better=False) for model in MODELS]
    originals = [row(model, "top1", 50.0, "original") for model in MODELS]
    assert cost_plots(board(*gaps, *originals)) == ()


def test_an_average_is_plotted_rather_than_an_attack_or_another_set(board: Callable[..., Leaderboard]) -> None:
    averages = [row(model, "shift_auc", 40.0) for model in MODELS]
    others = [
        one
        for m in MODELS
        for one in (row(m, "robust_accuracy", 20.0, "pgd", "4/255"), row(m, "top1", 30.0, "imagenet-a", data="imagenet-a"))
    ]
    assert [plot.score for plot in cost_plots(board(*others, *averages))] == ["shift_auc"]
    assert [plot.score for plot in cost_plots(board(*others))] == ["pgd 4/255"]
    assert [plot.score for plot in cost_plots(board(*others[1::2]))] == ["imagenet-a"]


def test_a_measurement_is_plotted_rather_than_an_accuracy_on_the_base_data(board: Callable[..., Leaderboard]) -> None:
    rows = [one for m in MODELS for one in (row(m, "challenge_accuracy", 40.0, "background_challenge"), row(m, "top1", 90.0, "original"))]
    (plot,) = cost_plots(board(*rows))
    assert plot.score == "background_challenge challenge_accuracy"


def test_models_without_the_score_are_left_out_and_named(board: Callable[..., Leaderboard], store: Store) -> None:
    found = board(*(row(model, "shift_auc", 40.0) for model in MODELS[:2]))
    (plot,) = cost_plots(found)
    assert (plot.score, plot.left_out) == ("shift_auc", ("third (no shift_auc)",))
    assert "Not shown: third (no shift_auc)." in render(found, store)


def test_the_axis_names_the_score_in_words(board: Callable[..., Leaderboard]) -> None:
    (plot,) = cost_plots(board(*(row(model, "mean_err_15", 40.0, better=False) for model in MODELS)))
    assert "mean error over 15 corruptions, % (lower is better)" in plot.svg
    assert "mean_err_15" not in plot.svg
