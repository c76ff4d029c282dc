"""Attacks that move the whole image have a robust accuracy, and are compared with no attack in a ball."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.results.attack_outcomes import attack_cell
from robustvit.results.gradient_masking import findings
from robustvit.results.leaderboard import build_leaderboard
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import canonical, parse

N = 60


def right(count: int) -> list[bool]:
    return [i < count for i in range(N)]


def test_the_worst_case_over_attacks_leaves_them_out_and_they_have_no_verdict(make_store, answered) -> None:
    every = [True] * N
    cells = {
        ("m", "clean", ""): answered(every), ("m", "fgsm", "8/255"): answered(right(50), attacked=every),
        ("m", "pgd", "8/255"): answered(right(40), attacked=every), ("m", "worst_shift", ""): answered(right(10), attacked=every),
        ("m", "spatial", ""): answered(right(5), attacked=every),
    }  # fmt: skip
    board = build_leaderboard(store := make_store(cells, metrics=["robust_accuracy", "worst_case_accuracy"])).rows
    robust = board[board["metric"] == "robust_accuracy"].set_index("scenario")
    assert robust["value"].round(1).to_dict() == {"fgsm": 83.3, "pgd": 66.7, "worst_shift": 16.7, "spatial": 8.3}
    assert set(robust.loc[["worst_shift", "spatial"], "gradients"]) == {""}
    assert robust.loc["pgd", "gradients"].startswith("unchecked")
    (worst,) = board[board["metric"] == "worst_case_accuracy"].itertuples()
    assert round(worst.value, 1) == 66.7
    assert "shift" not in worst.params
    assert "spatial" not in worst.params
    assert not findings(store)["between"].str.contains("shift|spatial").any()


def test_a_store_of_such_attacks_alone_has_no_findings(make_store, answered) -> None:
    store = make_store({("m", "worst_shift", ""): answered(right(10), attacked=[True] * N)}, metrics=["robust_accuracy"])
    assert findings(store).empty
    assert set(build_leaderboard(store).rows["gradients"]) == {""}


def test_their_role_is_none_of_those_that_are_checked_also_on_images_of_another_model() -> None:
    rows = pd.DataFrame({"sample": ["a", "b"], "label": [0, 1], "pred": [1, 1], "attacked": True, "felled_by": ""})
    for node in ("worst_shift", {"spatial": {"method": "first"}}, {"transfer": {"surrogate": "demo", "attack": {"worst_shift": {}}}}):
        (spec,) = parse(node)
        description = {"scenario": canonical(bind(lookup("attack", spec.name), spec)), "view": {"size": [4, 4]}, "attack_through": "x"}
        (step,) = attack_cell("c", description, rows).steps
        assert step.role == "other"
        assert np.isinf(step.eps)
