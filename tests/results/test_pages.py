"""Pages of a leaderboard: together they hold every scenario and metric, and nothing is cut; the usual tables of papers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from robustvit.cli import printing
from robustvit.errors import UsageError
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard
from robustvit.results.pages import pages
from robustvit.results.paper_tables import PER, paper_tables
from robustvit.results.table_formats import Page, pages_latex, pages_markdown

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
NORMS = ("linf", "l2", "l0")


def right(n: int, wrong: int) -> list[bool]:
    return [False] * wrong + [True] * (n - wrong)


@pytest.fixture
def board(make_store: Make, answered: Columns) -> pd.DataFrame:
    """Two models: clean, two corruptions of two severities, one attack of two sizes."""
    cells: dict[tuple[str, str, str], Any] = {}
    for model, extra in (("m", 0), ("r", 1)):
        cells[model, "clean", ""] = answered(right(10, 1))
        for name, wrong in (("fog", 2), ("snow", 4)):
            cells |= {(model, name, str(level)): answered(right(10, wrong + level + extra)) for level in (1, 2)}
        for eps, left in (("1/255", 7), ("2/255", 3)):
            attacked = {"attacked": np.ones(10, bool), **dict.fromkeys(NORMS, np.zeros(10))}
            cells[model, "pgd", eps] = {**answered(right(10, 10 - left + extra)), **attacked}
    return leaderboard(make_store(cells, metrics=["top1", "brier", "robust_accuracy", "corruption_error", "mean_corruption_error"]))


def shown(found: list[Page]) -> str:
    return pages_markdown(found)


@pytest.mark.parametrize("per", ["corruption", "severity", "attack", "data", None])
def test_a_single_transformed_model_is_never_named_as_the_model_itself(per: str | None, make_store: Make, answered: Columns) -> None:
    attacked = {"attacked": np.ones(10, bool), **dict.fromkeys(NORMS, np.zeros(10))}
    cells = {("m → quantize(bits=3)", "clean", ""): answered(right(10, 1)), ("m → quantize(bits=3)", "shift", ""): answered(right(10, 2))}
    cells |= {("m → quantize(bits=3)", "fog", str(level)): answered(right(10, 3)) for level in (1, 2)}
    cells["m → quantize(bits=3)", "pgd", "1/255"] = {**answered(right(10, 4)), **attacked}
    rows = leaderboard(make_store(cells, metrics=["top1", "brier", "robust_accuracy", "corruption_error"]))
    found = pages(rows) if per is None else paper_tables(rows, per).pages
    named = [page for page in found if "quantize(bits=3)" in page.title or "quantize(bits=3)" in page.table.to_csv()]
    assert found
    assert named == found


@pytest.mark.parametrize(("name", "other"), [("precision", "bfloat16"), ("storage", "jpeg85"), ("transforms", "tome(r=8)")])
def test_what_sets_a_model_apart_from_itself_as_it_is_is_told(name: str, other: str, board: pd.DataFrame) -> None:
    assert other not in shown(pages(board))
    assert other in shown(pages(board.assign(**{name: other})))


def test_every_scenario_and_metric_is_on_a_page(board: pd.DataFrame) -> None:
    found = pages(board)
    assert found[0].title == ""
    text = shown(found)
    for word in ("clean top-1", "clean Brier", "fog error", "snow error", "pgd 1/255 accuracy", "mean corruption error"):
        assert word in text, word
    by_title = {page.title.rpartition(" · ")[2]: page.table.set_index("scenario") for page in found[1:]}
    assert set(by_title) == {"top-1", "Brier"}
    assert list(by_title["top-1"].index) == ["fog", "snow", "pgd 1/255", "pgd 2/255"]
    assert list(by_title["top-1"].columns) == ["m", "r"]


def test_severities_are_averaged_with_the_means_of_their_ends(board: pd.DataFrame) -> None:
    page = next(page for page in pages(board) if page.title.endswith("top-1"))
    rows = board[(board["scenario"] == "fog") & (board["metric"] == "top1") & (board["model"] == "m")]
    value, low, high = rows[["value", "low", "high"]].mean()
    assert page.table.set_index("scenario").loc["fog", "m"] == f"{value:.1f} [{low:.1f}, {high:.1f}]"
    assert value == 65.0  # 70 and 60


def test_of_one_model_metrics_are_columns(board: pd.DataFrame) -> None:
    (page,) = pages(board[board["model"] == "m"])[1:]
    assert list(page.table.columns) == ["scenario", "top-1", "Brier"]
    assert page.directions == {"top-1": True, "Brier": False}


def test_a_suite_of_accuracies_without_clean_images_has_them(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", level): answered(right(10, 3)) for level in "12"}, metrics=["top1"])
    assert "70.0 [39.7, 89.2]" in shown(pages(leaderboard(store))).replace("\\", "")


def test_a_corruption_that_lacks_a_severity_has_no_mean(make_store: Make, answered: Columns) -> None:
    store = make_store({("m", "fog", "1"): answered(right(10, 3)), ("m", "fog", "2"): None}, metrics=["top1"], asked=10)
    assert pages(leaderboard(store))[1].table["top-1"].tolist() == ["partial"]


def test_severities_of_an_attack_are_never_averaged(board: pd.DataFrame) -> None:
    table = next(page for page in pages(board) if page.title.endswith("top-1")).table.set_index("scenario")
    assert [table.loc[f"pgd {eps}/255", "m"].split(" ")[0] for eps in (1, 2)] == ["70.0", "30.0"]


def test_another_metric_than_the_suites_is_shown(make_store: Make, answered: Columns) -> None:
    cells = {("m", name, severity): answered(right(10, 3)) for name, severity in (("clean", ""), ("fog", "1"), ("fog", "2"))}
    board = leaderboard(make_store(cells, metrics=["top1"]), metrics=["brier"])
    text = shown(pages(board))
    assert "clean Brier" in text
    assert "| fog |" in text


def test_the_table_by_corruption(board: pd.DataFrame) -> None:
    (page,), tidy = paper_tables(board, "corruption")
    assert list(page.table.columns) == ["model", "mean corruption error", "fog", "snow"]
    assert [text.split(" ")[0] for text in page.table.loc[0, ["fog", "snow"]]] == ["35.0", "55.0"]
    assert page.groups["fog"] == page.groups["snow"] == "weather"
    assert set(page.directions.values()) == {False}
    assert tidy.loc[tidy["model"] == "r", "value"].round(6).tolist() == [55.0, 45.0, 65.0]
    assert {"low", "high", "n", "status", "suite", "metric", "column"} <= set(tidy.columns)


def test_the_table_by_severity(board: pd.DataFrame) -> None:
    (page,), tidy = paper_tables(board, "severity")
    assert (list(page.table.columns), page.keys) == (["model", "corruption", "1", "2"], 2)
    assert page.table[["model", "corruption"]].to_numpy().tolist() == [["m", "fog"], ["m", "snow"], ["r", "fog"], ["r", "snow"]]
    assert tidy["value"].tolist() == [70, 60, 50, 40, 60, 50, 40, 30]


def test_the_table_by_attack_has_the_clean_accuracy_first(board: pd.DataFrame) -> None:
    (page,), tidy = paper_tables(board, "attack")
    assert list(page.table.columns) == ["model", "clean", "pgd 1/255", "pgd 2/255"]
    assert tidy.loc[tidy["model"] == "m", "value"].tolist() == [90, 70, 30]
    assert page.groups == {"clean": "clean", "pgd 1/255": "pgd", "pgd 2/255": "pgd"}


def test_the_table_by_data_has_a_column_for_each(make_store: Make, answered: Columns) -> None:
    make_store({("m", "clean", ""): answered(right(10, 1))}, data="first", suite="s", metrics=["top1"])
    store = make_store({("m", "clean", ""): answered(right(10, 4))}, data="second", suite="s", metrics=["top1"])
    (page,), _ = paper_tables(leaderboard(store), "data")
    assert [text.split(" ")[0] for text in page.table.loc[0, ["first", "second"]]] == ["90.0", "60.0"]


def test_every_metric_that_was_named_has_a_page(board: pd.DataFrame) -> None:
    found = paper_tables(board, "severity", every=True).pages
    assert [page.title.rpartition(" · ")[2] for page in found] == ["top-1", "Brier"]


@pytest.mark.parametrize("per", PER)
def test_what_a_leaderboard_does_not_have_is_said(make_store: Make, answered: Columns, per: str) -> None:
    board = leaderboard(make_store({("m", "full", ""): answered(right(4, 1))}, metrics=["top1"]))
    with pytest.raises(UsageError, match=f"--per {per}: the leaderboard has no .*--per takes corruption, severity, attack, data"):
        paper_tables(board, per)


def test_another_table_is_refused_with_the_nearest(board: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match=r"--per 'attacks' is unknown\. Did you mean 'attack'"):
        paper_tables(board, "attacks")


def test_latex_has_arrows_groups_and_captions(board: pd.DataFrame) -> None:
    text = pages_latex(paper_tables(board, "attack").pages)
    assert r"\multicolumn{2}{c}{pgd}" in text
    assert r"pgd 1/255 $\uparrow$" in text
    assert r"\caption{results $\cdot$ accuracy.}" in text.replace(text.split(r"\caption{")[1].split(" ")[0], "results")
    summary, *rest = pages_latex(pages(board)).split(r"\begin{table}")[1:]
    assert r"\caption{Summary" in summary
    assert any(r"top-1 $\uparrow$" in part.split(r"\begin{tabular}")[0] for part in rest)


def test_the_table_by_attack_has_clean_numbers_of_every_metric(board: pd.DataFrame) -> None:
    page = next(page for page in paper_tables(board, "attack", every=True).pages if page.title.endswith("Brier"))
    assert list(page.table.columns) == ["model", "clean", "pgd 1/255", "pgd 2/255"]
    clean = board.loc[(board["scenario"] == "clean") & (board["metric"] == "brier"), "value"]
    assert [text.split(" ")[0] for text in page.table["clean"]] == [f"{value:.3g}" for value in clean]


@pytest.mark.parametrize(("per", "metric"), [("severity", "mean_corruption_error"), ("corruption", "mean_corruption_error")])
def test_a_metric_that_does_not_fit_is_named_with_some_that_do(board: pd.DataFrame, per: str, metric: str) -> None:
    with pytest.raises(UsageError, match=f"--per {per}: there are no values of {metric} by {per}; --metric .*top1"):
        paper_tables(board[board["metric"] == metric], per, every=True)


def test_heads_name_scenarios_and_metrics_in_words_and_tidy_numbers_by_identifiers(board: pd.DataFrame) -> None:
    renamed = board.assign(scenario=board["scenario"].replace("fog", "gaussian_noise"), model=board["model"].replace("m", "vit_tiny"))
    (page,), tidy = paper_tables(renamed, "corruption")
    assert list(page.table.columns) == ["model", "mean corruption error", "gaussian noise", "snow"]
    assert list(tidy["column"].unique()) == ["mean_corruption_error", "gaussian_noise", "snow"]
    assert page.table["model"].tolist() == ["vit_tiny", "r"]


def test_a_terminal_prints_labels_in_heads_as_they_are(board: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(printing, "out", Console(file=written, width=200))
    for page in pages(board.assign(model=board["model"].replace("m", "vit_tiny"))):
        if page.title:
            printing.print_page(page)
    assert "vit_tiny" in written.getvalue()
    assert "vit tiny" not in written.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_shows_every_number_whole(board: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    written = io.StringIO()
    monkeypatch.setattr(printing, "out", Console(file=written, width=width))
    found = [*pages(board)[1:], *(page for per in ("corruption", "attack") for page in paper_tables(board, per).pages)]
    for page in found:
        printing.print_page(page)
    text = written.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for page in found:
        for value in page.table.iloc[:, page.keys :].to_numpy().ravel():
            assert value in text


def test_a_page_is_split_by_widths_and_rows_without_numbers_are_left_out() -> None:
    table = pd.DataFrame([["x", "1", "2", ""], ["y", "", "", "3"]], columns=["row", "a", "b", "c"])
    parts = list(Page("t", table).split([5, 5, 5], 10))
    assert [part.table.to_numpy().tolist() for part in parts] == [[["x", "1", "2"]], [["y", "3"]]]
    assert [list(part.table.columns) for part in Page("t", table).split([50, 5, 5], 10)] == [["row", "a"], ["row", "b", "c"]]


def test_own_corruptions_and_attacks_are_in_their_tables(board: pd.DataFrame) -> None:
    own = board.assign(scenario=board["scenario"].replace({"pgd": "mine:attack", "fog": "mine:corruption"}))
    (page,), _ = paper_tables(own, "attack")
    assert list(page.table.columns) == ["model", "clean", "mine:attack 1/255", "mine:attack 2/255"]
    (page,), _ = paper_tables(own[own["metric"] == "top1"], "attack")
    assert list(page.table.columns) == ["model", "clean", "mine:attack 1/255", "mine:attack 2/255"]
    (page,), _ = paper_tables(own, "corruption")
    assert {"mine:corruption", "snow"} < set(page.table.columns)
    (page,), _ = paper_tables(own, "severity")
    assert list(page.table["corruption"].unique()) == ["mine:corruption", "snow"]
