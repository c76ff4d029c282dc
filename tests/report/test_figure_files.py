"""Figures of a report as files for papers."""

import sys
from pathlib import Path

import pytest

from robustvit.errors import MissingExtra, UsageError
from robustvit.records.store import Store
from robustvit.report.papers.figure_files import write_figure


@pytest.mark.parametrize("name", ["corruptions", "attacks"])
def test_a_figure_has_its_curves_titles_and_the_same_bytes_each_time(store: Store, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    text = write_figure(store, name, tmp_path / "one.svg").read_text()
    assert all(f">{word}<" in text for word in ("demo", "rival", "fog" if name == "corruptions" else "pgd"))
    assert write_figure(store, name, tmp_path / "two.svg").read_text() == text
    assert write_figure(store, name, tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")


def test_a_heat_map_has_the_numbers_of_one_model(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = write_figure(store, "heat-map", tmp_path / "one.svg", models=["demo"]).read_text()
    assert all(f">{number}<" in text for number in ("85.0", "65.0", "45.0"))
    with pytest.raises(UsageError, match="a heat map is of one model; choose with --model: demo, rival"):
        write_figure(store, "heat-map", tmp_path / "one.svg")


def test_what_cannot_be_drawn_is_refused_in_a_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the figure 'attack' is unknown\. Did you mean 'attacks'"):
        write_figure(store, "attack", tmp_path / "a.pdf")
    with pytest.raises(UsageError, match="the ending of --output 'gif' is unknown"):
        write_figure(store, "attacks", tmp_path / "a.gif")
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match="nothing to draw as certified"):
        write_figure(store, "certified", tmp_path / "a.pdf")


def test_without_matplotlib_a_line_says_so(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'robustvit\[figures\]'"):
        write_figure(store, "attacks", tmp_path / "a.pdf")


@pytest.mark.parametrize(("name", "words"), [("corruptions", ("top-1 accuracy, %", "severity")), ("attacks", ("robust accuracy, %",))])
def test_axes_and_bands_are_named(store: Store, tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    text = write_figure(store, name, tmp_path / "one.svg").read_text()
    assert all(f">{word}<" in text for word in (*words, "bands: 95 % intervals"))
