"""Cells that are not finished are never taken for whole ones: in compare, diff, the factor view and the Pareto plot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import robustvit as rv
from robustvit.errors import NotApplicable
from robustvit.records.store import Store
from robustvit.report.pareto_plot import pareto_plot
from robustvit.results.comparison import compare, diff, flips
from robustvit.results.factors.pareto_front import pareto
from robustvit.results.factors.regression import effective_robustness
from robustvit.results.factors.tables import factor_table
from robustvit.results.factors.view import factor_view
from robustvit.results.leaderboard import build_leaderboard

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def robust(answered: Columns, share: int, n: int = 100) -> dict[str, Any]:
    """The first `share` of n samples withstand the attack."""
    return answered([i < share for i in range(n)], attacked=[True] * n)


def chain(answered: Columns, model: str, *shares: int) -> dict[tuple[str, str, str], Any]:
    """A chain of four attacks on a model, of which those with a share of robust samples were computed."""
    done = dict(enumerate(shares, 1))
    return {(model, f"aa {link}/4", "4/255"): robust(answered, done[link]) if link in done else None for link in range(1, 5)}


def test_an_unfinished_chain_is_compared_after_the_furthest_attack_that_both_have(make_store: Make, answered: Columns) -> None:
    """Two equal models: the whole chain of one against two attacks of the other would make that one better, p = 1e-12."""
    store = make_store({**chain(answered, "a", 80, 70), **chain(answered, "b", 80, 70, 40, 30)}, asked=100)
    (row,) = compare(store, "a", "b").to_dict("records")
    assert (row["acc_a"], row["acc_b"], row["p"], row["verdict"]) == (70.0, 70.0, 1.0, "no difference shown")
    assert row["partial"] == "2 of 4 attacks, the last step 2: the rest may fool more"
    assert compare(store, "b", "a")["partial"].to_list() == [row["partial"]]
    assert flips(store, "a", "b").empty


def test_two_finished_chains_are_compared_whole_and_not_marked(make_store: Make, answered: Columns) -> None:
    store = make_store({**chain(answered, "a", 80, 70, 60, 60), **chain(answered, "b", 80, 70, 40, 30)}, asked=100)
    (row,) = compare(store, "a", "b").to_dict("records")
    assert (row["acc_a"], row["acc_b"], row["verdict"], row["partial"]) == (60.0, 30.0, "a better", "")


def test_a_cell_that_was_stopped_is_compared_on_the_samples_of_both_and_marked(make_store: Make, answered: Columns) -> None:
    store = make_store({("a", "fog", "1"): answered([True] * 40), ("b", "fog", "1"): answered([True] * 100)}, asked=100)
    (row,) = compare(store, "a", "b").to_dict("records")
    assert (row["n"], row["partial"]) == (40, "a: 40 of 100 samples")
    limited = make_store({("a", "fog", "1"): answered([True] * 40), ("b", "fog", "1"): answered([False] * 100)}, name="limited")
    assert compare(limited, "a", "b")["partial"].to_list() == ["40 samples that both have, of 40 of a and 100 of b"]
    assert set(flips(limited, "a", "b")["partial"]) == {"40 samples that both have, of 40 of a and 100 of b"}


def test_stores_that_reached_different_attacks_do_not_differ_for_that(make_store: Make, answered: Columns) -> None:
    old, new = (
        make_store(chain(answered, "a", *shares), name=name, asked=100) for name, shares in (("old", (80, 70)), ("new", (80, 70, 40, 30)))
    )
    (row,) = diff(old, new).to_dict("records")
    assert (row["verdict"], row["changed"], row["partial"]) == ("identical", 0, "2 of 4 attacks, the last step 2: the rest may fool more")


MODELS = {"a": (80, 70, 60, 50), "b": (80, 70), "c": (80, 75, 45, 40), "d": (90, 70, 30, 20)}
"""Robust accuracies after each attack: b, which no attack has finished with, would be the most robust."""


def view_of(make_store: Make, answered: Columns, **models: tuple[int, ...]) -> Any:
    cells: dict[tuple[str, str, str], Any] = {}
    for place, (model, shares) in enumerate(models.items()):
        cells |= {(model, "clean", ""): answered([i < 90 - place for i in range(100)])} | chain(answered, model, *shares)
    return factor_view(build_leaderboard(make_store(cells, asked=100, metrics=("top1", "robust_accuracy"))))


def test_a_partial_number_is_no_score_of_a_factor_view(make_store: Make, answered: Columns) -> None:
    view = view_of(make_store, answered, **MODELS)
    rows = view.rows.set_index("model")
    reason = "2 of 4 attacks, the last step 2: the rest may fool more"
    assert rows["aa 4/255"].to_dict() == pytest.approx({"a": 50.0, "b": float("nan"), "c": 40.0, "d": 20.0}, nan_ok=True)
    assert rows["aa 4/255_partial"].to_dict() == {"a": "", "b": reason, "c": "", "d": ""}
    assert "b" not in set(pareto(view, "parameters", "aa 4/255")["model"])
    fitted = effective_robustness(view, "aa 4/255").table.set_index("model")
    assert fitted.loc["b", "left_out"] == f"aa 4/255 is partial: {reason}"
    page = factor_table(view, None, "aa 4/255", "parameters").page.set_index("model")
    assert page["aa 4/255"].to_dict() == {"a": "50.00", "b": "partial", "c": "40.00", "d": "20.00"}
    assert page["front"].to_dict() == {"a": "* ?", "b": "", "c": "?", "d": ""}  # 50 and 40 % of 20 images


def test_a_pareto_plot_names_what_it_leaves_out(make_store: Make, answered: Columns) -> None:
    made = pareto_plot(view_of(make_store, answered, **MODELS), "aa 4/255", "parameters")
    assert sorted(one.tip.split("\n")[0] for one in made.models) == ["a", "c", "d"]
    assert made.title.endswith("; left out: b (aa 4/255 is partial: 2 of 4 attacks, the last step 2: the rest may fool more)")


def test_a_plot_of_partial_numbers_alone_is_refused_with_the_reason(make_store: Make, answered: Columns) -> None:
    view = view_of(make_store, answered, a=(80, 70), b=(80,))
    with pytest.raises(NotApplicable, match=r"there are none; left out: a \(aa 4/255 is partial: 2 of 4 attacks.*b \(aa 4/255 is partial"):
        pareto_plot(view, "aa 4/255", "parameters")


def test_metrics_of_an_analysis_that_is_undefined_leave_the_reason_to_its_cell(tmp_path: Path) -> None:
    rv.run("position-reliance", ["demo+peg"], limit=4, data="digits", store=tmp_path / "store")
    board = rv.leaderboard(tmp_path / "store")
    assert not board["reason"].str.contains("no cell has the column").any()
    assert board["reason"].str.contains("has no learned position embedding").sum() == 1
