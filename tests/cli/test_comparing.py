"""compare and diff on a terminal of 80 columns."""

from __future__ import annotations

import pandas as pd
import pytest

from robustvit.cli import printing
from robustvit.cli.comparison_pages import _fold, comparison_pages, flip_pages
from robustvit.results.comparison import compare, diff, flips

GOOD, BAD = [True] * 38 + [False] * 2, [True] * 4 + [False] * 36
LONG = "elastic_transform_imagecorruptions"


@pytest.fixture
def two(make_store, answered):  # type: ignore[no-untyped-def]
    """A store with two models: a is far better on fog, both are the same when clean."""
    cells = {
        (model, scenario, severity): answered(GOOD if model == "a" or scenario == "clean" else BAD)
        for model in "ab"
        for scenario, severity in (("clean", ""), ("fog", "3"), (LONG, "5"))
    }
    return lambda name="two": make_store(cells, name=name)


def at_80(robustvit, monkeypatch, *words):  # type: ignore[no-untyped-def]
    for console in (printing.out, printing.err):
        monkeypatch.setattr(console, "_width", 80)
    result = robustvit(*words)
    assert result.code == 0, result.err
    return result.out.splitlines()


def rows(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def test_a_comparison_of_two_models_is_one_table_of_80_columns(robustvit, monkeypatch, two) -> None:  # type: ignore[no-untyped-def]
    lines = at_80(robustvit, monkeypatch, "compare", "a", "b", "--store", two().path)
    table = [line for line in lines if line[:1] in "┏┃┡│└"]
    assert max(map(len, table)) <= 80
    assert not [line for line in table if "…" in line]
    assert lines[:3] == ["a: a", "b: b", "made-up, digits, seed 0, float32"]
    assert lines[3].strip() == "40 samples each"
    assert [cell.strip() for cell in table[1].strip("┃").split("┃")] == ["scenario", "a", "b", "a − b", "p", "verdict"]
    assert rows(lines)[:2] == [
        ["clean", "95.0", "95.0", "0.0 [-6.6, 6.6]", "1.000", "–"],
        ["fog 3", "95.0", "10.0", "85.0 [67.4, 94.5]", "<0.001", "a better"],
    ]
    assert rows(lines)[2:] == [["elastic_transform_", *rows(lines)[1][1:]], ["imagecorruptions 5", "", "", "", "", ""]]
    assert lines[-1].startswith("3 cells: 2 a better, 1 no difference shown (–). Top-1 in %, p is McNemar's after Holm.")


def test_a_wide_terminal_folds_no_name(robustvit, two) -> None:  # type: ignore[no-untyped-def]
    assert f"{LONG} 5 │" in robustvit("compare", "a", "b", "--store", two().path).out


def test_flips_are_a_table_for_each_scenario(robustvit, monkeypatch, two) -> None:  # type: ignore[no-untyped-def]
    lines = at_80(robustvit, monkeypatch, "compare", "a", "b", "--store", two().path, "--flips")
    assert max(map(len, lines[:-1])) <= 80
    assert [line.strip() for line in lines if line.strip().endswith(": 34")] == ["fog 3: 34", f"{LONG} 5: 34"]
    assert rows(lines)[0] == ["s00004", "0", "0", "1"]
    assert lines[-1] == "68 samples that one has correct and the other misclassifies, in 2 cells."


def test_what_varies_beside_the_scenario_names_a_table(make_store, answered, two) -> None:  # type: ignore[no-untyped-def]
    found = comparison_pages(diff(two("one"), two("other")))
    assert [page.title for page in found.pages] == ["a · 40 samples each", "b · 40 samples each"]
    assert found.same == "made-up, digits, seed 0, float32"
    assert set(found.pages[0].table["verdict"]) == {"identical"}
    assert "n" not in found.pages[0].table


def test_columns_that_are_empty_are_left_out_and_counts_that_differ_are_shown(make_store, answered) -> None:  # type: ignore[no-untyped-def]
    one = make_store({("a", "clean", ""): answered(GOOD), ("a", "fog", "1"): answered(GOOD[:20])}, name="one")
    other = make_store({("a", "clean", ""): answered(BAD), ("a", "fog", "1"): answered(BAD[:20])}, name="other", salt="x")
    (page,) = comparison_pages(diff(one, other)).pages
    assert page.table["n"].tolist() == ["40", "20"]
    assert page.table["b − a"].str.startswith("-").all()
    alone = comparison_pages(diff(one, make_store({("c", "clean", ""): answered(GOOD)}, name="third"))).pages
    assert [list(page.table.columns) for page in alone] == [["scenario", "verdict"]] * 2


def test_what_is_missing_and_long_verdicts_are_told_once_below(make_store, answered) -> None:  # type: ignore[no-untyped-def]
    cells = {(model, name, ""): answered(GOOD if model == "a" else GOOD[:10]) for model in "ab" for name in ("clean", "pixelate")}
    frame = compare(make_store(cells, asked=40), "a", "b")
    (note,) = comparison_pages(frame).notes
    assert note == "all: b: 10 of 40 samples"
    frame.loc[1, "verdict"] = "other versions: pixelate 1 and 2"
    found = comparison_pages(frame)
    assert found.notes[0] == "pixelate: other versions: pixelate 1 and 2"
    assert found.pages[0].table["verdict"].tolist() == ["–", "see below"]


def test_no_flips_are_no_table(make_store, answered) -> None:  # type: ignore[no-untyped-def]
    store = make_store({(model, "clean", ""): answered(GOOD) for model in "ab"})
    assert flip_pages(flips(store, "a", "b")).pages == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("clean", "clean"),
        ("gaussian_noise 3", "gaussian_\nnoise 3"),
        ("pgd norm=l2, steps=50 4/255", "pgd\nnorm=l2,\nsteps=50\n4/255"),
        ("averylongname", "averylongname"),
    ],
)
def test_names_are_broken_between_words(text: str, lines: str) -> None:
    assert _fold(text, 10) == lines
    assert pd.Series([_fold(text, 100)]).tolist() == [text]
