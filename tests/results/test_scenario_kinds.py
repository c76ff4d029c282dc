"""What scenarios are, by their rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.results.scenario_kinds import scenario_kinds

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
ROW = {"scenario": "mine:own", "cell": "c", "severity": "", "metric": "top1", "gradients": ""}


def kinds(*rows: dict[str, str]) -> dict[str, str]:
    return scenario_kinds(pd.DataFrame([ROW | row for row in rows]))


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (({"metric": "robust_accuracy", "severity": "1/255"},), "attack"),
        (({"metric": "robust_accuracy_at_1"},), "attack"),
        (({"gradients": "unchecked: one step", "severity": "1/255"},), "attack"),
        (({"metric": "top1", "severity": "0.25"}, {"metric": "certified_accuracy"}), "certificate"),
        (({"severity": "3"},), "corruption"),
        (({}, {"metric": "corruption_error", "cell": ""}), "corruption"),
    ],
)
def test_the_rows_of_an_own_scenario_tell_its_kind(rows: tuple[dict[str, str], ...], kind: str) -> None:
    assert kinds(*rows) == {"mine:own": kind}


def test_nothing_is_said_of_what_no_row_tells() -> None:
    assert kinds({}, {"scenario": "clean", "severity": "1"}, {"scenario": "", "metric": "mean_err_15", "cell": ""}) == {}


def test_a_registered_name_is_what_the_registry_says() -> None:
    rows = ({"scenario": name, "severity": "1"} for name in ("fog", "pgd", "gaussian"))
    assert list(kinds(*rows).values()) == ["corruption", "attack", "certificate"]


def test_an_attack_of_a_store_is_told_by_any_of_its_metrics(make_store: Make, answered: Columns) -> None:
    attacked = {**answered([True, False]), "attacked": np.ones(2, bool), "linf": np.zeros(2)}
    board = leaderboard(make_store({("m", "pgd", "1/255"): attacked, ("m", "fog", "1"): answered([True, True])}, metrics=["brier"]))
    own = board.assign(scenario=board["scenario"].replace({"pgd": "mine:a", "fog": "mine:c"}))
    assert scenario_kinds(own) == {"mine:a": "attack", "mine:c": "corruption"}
