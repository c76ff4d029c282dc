"""The fooling rate compares the predictions of a cell with those of the clean cell beside it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import robustvit as rv
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import summary

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def rates(store: Store, **about: Any) -> pd.DataFrame:
    board = leaderboard(store, metrics=["fooling_rate"], **about)
    return board[board["metric"] == "fooling_rate"]


def only(table: pd.DataFrame) -> Mapping[str, Any]:
    (found,) = table.to_dict(orient="records")
    return found


def test_it_is_the_share_of_those_that_were_correct_when_clean(make_store: Make, answered: Columns) -> None:
    clean, foggy = [True] * 6 + [False] * 4, [True, False, False, True, True, True, True, False, False, False]
    found = only(rates(make_store({("m", "clean", ""): answered(clean), ("m", "fog", "3"): answered(foggy)})))
    assert found["value"] == pytest.approx(100 * 2 / 6)
    assert (found["n"], found["scenario"], found["severity"], found["status"]) == (6, "fog", "3", "complete")


def test_samples_are_joined_by_id_and_those_without_a_partner_are_left_out(make_store: Make, answered: Columns) -> None:
    cells = {
        ("m", "clean", ""): answered([True, True, False], ids=["c", "a", "b"]),
        ("m", "fog", "3"): answered([False, False, True, False], ids=["a", "b", "c", "d"]),
    }
    found = only(rates(make_store(cells)))
    assert (found["value"], found["n"]) == (50.0, 2)


def test_every_model_is_compared_with_its_own_clean_cell(make_store: Make, answered: Columns) -> None:
    cells = {(model, "clean", ""): answered(right) for model, right in (("a", [True, True]), ("b", [True, False]))}
    cells |= {(model, "fog", "3"): answered([False, True]) for model in ("a", "b")}
    assert rates(make_store(cells)).set_index("model")["value"].to_dict() == {"a": 50.0, "b": 100.0}


def test_without_a_clean_cell_the_reason_says_what_to_run(make_store: Make, answered: Columns) -> None:
    found = only(rates(make_store({("m", "fog", "3"): answered([True, False])})))
    assert (found["status"], found["cell"]) == ("undefined", "")
    assert found["reason"] == "no cell has the column clean_pred. Run `clean`, too, for the same model and data."


def test_the_clean_cell_of_another_suite_is_used(make_store: Make, answered: Columns) -> None:
    make_store({("m", "clean", ""): answered([True, True, False])}, suite="one", started="2026-01-01T00:00:00+00:00")
    store = make_store({("m", "fog", "3"): answered([False, True, False])}, suite="two", started="2026-01-02T00:00:00+00:00")
    assert only(rates(store, suite="two"))["value"] == 50.0


def test_clean_images_of_other_data_are_not_used(make_store: Make, answered: Columns) -> None:
    make_store({("m", "clean", ""): answered([True, True])}, suite="one", label="others")
    store = make_store({("m", "fog", "3"): answered([False, True])}, suite="two", label="these")
    assert only(rates(store, suite="two"))["status"] == "undefined"


def test_a_cell_that_is_still_to_come_has_a_row_without_a_value(make_store: Make, answered: Columns) -> None:
    found = only(rates(make_store({("m", "clean", ""): answered([True, True]), ("m", "fog", "3"): None})))
    assert (found["scenario"], found["status"]) == ("fog", "partial")
    assert np.isnan(found["value"])


def test_on_attacks_it_is_their_success_and_temperatures_have_clean_cells_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\ndata: digits\nmetrics: [fooling_rate, attack_success, top1]\n"
        "transforms: [[], [{attention_temperature: {temperature: 3}}]]\n"
        "scenarios: [clean, {adversarial_patch: {size: 8, steps: 5}}]\n"
    )
    rv.run(tmp_path / "mine.yaml", ["demo"], store=tmp_path / "s", limit=30)
    board = leaderboard(tmp_path / "s")
    both = board[board["scenario"] == "adversarial_patch"].pivot_table("value", "transforms", "metric")
    counts = board[board["metric"] == "fooling_rate"].set_index("transforms")["n"]
    assert both["fooling_rate"].tolist() == both["attack_success"].tolist()
    assert 0 < both["fooling_rate"].iloc[0] < 100
    right = board[(board["scenario"] == "clean") & (board["metric"] == "top1")].set_index("transforms")["value"] * 0.3
    assert counts.to_dict() == right.round().astype(int).to_dict()


def test_the_summary_has_the_mean_over_nested_corruptions_for_each_number_of_patches(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\ndata: digits\nmetrics: [fooling_rate]\nscenarios:\n  - clean\n"
        "  - patch_corruption: {corruption: [{contrast: {severity: 5}}, {fog: {severity: 5}}], count: [4, 16], size: 8, offset: [0]}\n"
        "  - patch_corruption: {corruption: [{contrast: {severity: 5}}, {fog: {severity: 5}}], count: 9, size: 8, offset: 4}\n"
    )
    rv.run(tmp_path / "mine.yaml", ["demo"], store=tmp_path / "s", limit=40)
    board = leaderboard(tmp_path / "s")
    shown = summary(board).iloc[0]
    mean = board[board["severity"] == "16"]["value"].mean()
    text = shown["patch_corruption offset=0 16 fooling rate, mean of 2"]
    value, low, high = (float(part) for part in re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", text).groups())  # type: ignore[union-attr]
    assert (f"{value:.1f}", low < value < high) == (f"{mean:.1f}", True)
    assert [name for name in shown.index if "fooling rate" in name] == [
        f"patch_corruption offset={offset} {count} fooling rate, mean of 2" for offset, count in ((0, 4), (0, 16), (4, 9))
    ]


def test_a_certificate_is_not_compared_with_clean_predictions(tmp_path: Path) -> None:
    suite = tmp_path / "c.yaml"
    suite.write_text("{name: c, title: c, data: digits, scenarios: [clean, {columns: {width: 4}}], metrics: [top1, fooling_rate]}")
    rv.run(suite, models=["demo/ablations"], store=tmp_path / "s", limit=8)
    board = leaderboard(tmp_path / "s")
    assert "fooling_rate" not in set(board.loc[board["scenario"] == "columns", "metric"])
    assert "columns fooling rate" not in summary(board)
