"""Paired tests against scipy and tables worked by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from robustvit.errors import StoreError, UsageError
from robustvit.records.store import Store
from robustvit.results.comparison import compare, diff, flips, mcnemar

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def cut(n: int, start: int, stop: int) -> list[bool]:
    """All correct but samples [start, stop)."""
    return [not start <= i < stop for i in range(n)]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (3, 12), (100, 140), (2000, 1800)])
def test_mcnemar_agrees_with_scipy(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_two_models_are_compared_cell_by_cell(make_store: Make, answered: Columns) -> None:
    cells = {("a", "clean", ""): answered(cut(50, 0, 2)), ("b", "clean", ""): answered(cut(50, 1, 20))}
    (row,) = compare(make_store(cells), "a", "b").to_dict(orient="records")
    assert (row["n"], row["acc_a"], row["acc_b"], row["only_a"], row["only_b"]) == (50, 96.0, 62.0, 18, 1)
    assert row["difference"] == pytest.approx(34.0)
    assert row["low"] < 34 < row["high"]
    assert row["p"] == pytest.approx(stats.binomtest(1, 19).pvalue)
    assert row["verdict"] == "a better"


@pytest.mark.parametrize(("a", "b"), [("a", "a → soft(t=2)"), ("a", "a -> soft(t=2)"), ("a → soft(t=1)", "b → soft(t=2)")])
def test_sides_that_name_their_transforms_are_compared(make_store: Make, answered: Columns, a: str, b: str) -> None:
    sides = {"a": 10, "a → soft(t=1)": 10, "a → soft(t=2)": 40, "b": 50, "b → soft(t=2)": 40}
    store = make_store({(side, "clean", ""): answered(cut(50, 0, wrong)) for side, wrong in sides.items()})
    (row,) = compare(store, a, b).to_dict(orient="records")
    assert (row["acc_a"], row["acc_b"], row["verdict"]) == (80.0, 20.0, "a better")


@pytest.mark.parametrize("table", [compare, flips])
@pytest.mark.parametrize(("a", "b"), [("a", "a"), ("a → soft(t=2)", "a -> soft(t=2)")])
def test_a_model_is_not_compared_with_itself(make_store: Make, answered: Columns, table: Any, a: str, b: str) -> None:
    store = make_store({(side, "clean", ""): answered(cut(50, 0, 1)) for side in ("a", "a → soft(t=2)")})
    with pytest.raises(UsageError, match="are the same model with the same rows"):
        table(store, a, b)


def test_transforms_that_no_run_applied_are_refused(make_store: Make, answered: Columns) -> None:
    store = make_store({(side, "clean", ""): answered(cut(50, 0, 1)) for side in ("a", "a → soft(t=2)")})
    with pytest.raises(StoreError, match=r"no run requested 'a → soft\(t=3\)'. Did you mean 'a → soft\(t=2\)'"):
        compare(store, "a", "a → soft(t=3)")


def test_p_values_are_corrected_over_the_cells_of_a_suite(make_store: Make, answered: Columns) -> None:
    """Six samples of one side alone have p = 1/32, which is no finding among three cells."""
    cells = {(m, "fog", s): answered(cut(40, 0, 0)) for m in "ab" for s in "12"}
    cells |= {("a", "snow", "1"): answered(cut(40, 0, 6)), ("b", "snow", "1"): answered(cut(40, 0, 0))}
    table = compare(make_store(cells), "a", "b").set_index(["scenario", "severity"])
    assert table.loc[("snow", "1"), "p"] == pytest.approx(1 / 32)
    assert table.loc[("snow", "1"), "p_holm"] == pytest.approx(3 / 32)
    assert set(table["verdict"]) == {"no difference shown"}


def test_only_samples_that_both_have_count(make_store: Make, answered: Columns) -> None:
    cells = {
        ("a", "clean", ""): answered(cut(10, 0, 0)),
        ("b", "clean", ""): answered(cut(6, 0, 3), ids=[f"s{i:05d}" for i in range(4, 10)]),
    }
    (row,) = compare(make_store(cells), "a", "b").to_dict(orient="records")
    assert (row["n"], row["only_a"]) == (6, 3)


def test_a_cell_without_rows_is_listed_and_not_tested(make_store: Make, answered: Columns) -> None:
    cells = {("a", "clean", ""): answered(cut(10, 0, 0)), ("b", "clean", ""): None}
    cells |= {("a", "fog", "1"): answered(cut(10, 0, 9)), ("b", "fog", "1"): answered(cut(10, 0, 0))}
    table = compare(make_store(cells), "a", "b").set_index("scenario")
    assert table.loc["clean", "verdict"] == "no shared samples"
    assert np.isnan(table.loc["clean", "p_holm"])
    assert table.loc["fog", "p_holm"] == table.loc["fog", "p"]
    assert table.loc["fog", "verdict"] == "b better"


def test_two_models_with_the_same_predictions_do_not_differ(make_store: Make, answered: Columns) -> None:
    (row,) = compare(make_store({(one, "clean", ""): answered(cut(10, 0, 3)) for one in "ab"}), "a", "b").to_dict(orient="records")
    assert (row["difference"], row["p"], row["verdict"]) == (0.0, 1.0, "no difference shown")


def test_models_without_a_common_cell_are_refused(make_store: Make, answered: Columns) -> None:
    store = make_store({("a", "fog", "1"): answered(cut(4, 0, 1)), ("b", "snow", "1"): answered(cut(4, 0, 1))})
    with pytest.raises(StoreError, match="share no cell"):
        compare(store, "a", "b")
    with pytest.raises(StoreError, match="no model 'c'"):
        compare(store, "a", "c")


def test_other_labels_mean_other_data(make_store: Make, answered: Columns) -> None:
    relabelled = {**answered(cut(4, 0, 1)), "label": np.ones(4, int)}
    store = make_store({("a", "clean", ""): answered(cut(4, 0, 1)), ("b", "clean", ""): relabelled})
    with pytest.raises(StoreError, match="different labels"):
        compare(store, "a", "b")


def test_flips_are_the_samples_that_one_alone_has_correct(make_store: Make, answered: Columns) -> None:
    store = make_store({("a", "fog", "2"): answered(cut(10, 0, 2)), ("b", "fog", "2"): answered(cut(10, 1, 4))})
    table = flips(store, "a", "b")
    assert list(table["sample"]) == ["s00000", "s00002", "s00003"]
    assert list(table["pred_a"]) == [1, 0, 0]
    assert list(table["pred_b"]) == [0, 1, 1]
    assert set(table["severity"]) == {"2"}


def test_a_store_does_not_differ_from_itself(make_store: Make, answered: Columns) -> None:
    store = make_store({("a", "fog", s): answered(cut(10, 0, int(s))) for s in "123"})
    table = diff(store, store.path)
    assert table["equal"].all()
    assert set(table["verdict"]) == {"identical"}


def test_differences_between_stores_are_tested_against_chance(make_store: Make, answered: Columns) -> None:
    old = make_store({("a", "fog", "1"): answered(cut(50, 0, 0)), ("a", "fog", "2"): answered(cut(50, 0, 2)), ("a", "snow", "1"): None})
    new = {
        ("a", "fog", "1"): answered(cut(50, 0, 20)),
        ("a", "fog", "2"): answered(cut(50, 1, 4)),
        ("a", "fog", "3"): answered(cut(50, 0, 0)),
    }
    table = diff(old, make_store(new, name="new", salt="v2")).set_index(["scenario", "severity"])
    assert table.loc[("fog", "1"), ["difference", "changed", "verdict"]].to_list() == [-40.0, 20, "moved"]
    assert table.loc[("fog", "2"), ["changed", "verdict"]].to_list() == [3, "within chance"]
    assert table["verdict"].to_list()[2:] == ["only in a", "only in b"]
    assert not table["equal"].any()


def test_equal_predictions_with_other_bits_are_not_identical(make_store: Make, answered: Columns) -> None:
    rows = answered(cut(10, 0, 3))
    store = make_store({("a", "clean", ""): rows})
    (row,) = diff(store, make_store({("a", "clean", ""): {**rows, "nll": rows["nll"] + 1e-6}}, name="new")).to_dict(orient="records")
    assert (row["changed"], row["equal"], row["verdict"]) == (0, False, "within chance")


@pytest.mark.parametrize("damage", ["piece", "description"])
def test_a_damaged_cell_is_named_once_and_the_others_are_compared(
    make_store: Make, answered: Columns, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    store = make_store({(model, name, "1"): answered(cut(40, 0, 20)) for model in "ab" for name in ("fog", "snow")})
    cell = store.cells()[0]
    path = store.files(cell)[0].path if damage == "piece" else store.path / "cells" / cell / "cell.json"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    verdicts = [compare(store, "a", "b")["verdict"].tolist() for _ in range(2)]
    told, compared = sorted(verdicts[0])
    assert compared == "no difference shown"
    assert told.startswith(f"a: {store.path}")
    assert [str(path) in record.message for record in caplog.records] == [True]
