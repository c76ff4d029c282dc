"""The report of a run is written anew where the store, the page or the code has changed, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustvit.records.store import Store
from robustvit.report.live import current_page
from robustvit.report.live.current_page import write_current_report
from robustvit.report.page import write_report

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pages that were written."""
    found: list[Path] = []

    def write(store: Any, path: Path) -> Path:
        found.append(path)
        return write_report(store, path)

    monkeypatch.setattr(current_page, "write_report", write)
    return found


def test_a_page_of_the_store_as_it_is_stays(make_store: Make, answered: Columns, tmp_path: Path, written: list[Path]) -> None:
    store = make_store({("m", "clean", ""): answered([True] * 4)})
    page = tmp_path / "report.html"
    for _ in range(3):
        assert write_current_report(store, page) == page
    assert written == [page]
    assert page.read_text() == write_report(store, tmp_path / "other.html").read_text()


@pytest.mark.parametrize("change", ["rows", "failure", "page", "no page", "code"])
def test_what_changes_the_page_writes_it_anew(
    make_store: Make, answered: Columns, tmp_path: Path, written: list[Path], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    cells = {("m", name, ""): answered([True] * 4) for name in ("clean", "fog")}
    store = make_store(cells)
    page = tmp_path / "report.html"
    write_current_report(store, page)
    if change == "rows":
        make_store({**cells, ("n", "clean", ""): answered([False] * 4)}, started="2026-01-02T00:00:00+00:00")
    elif change == "failure":
        store.fail(store.cells()[0], "no")
    elif change == "page":
        page.write_text(page.read_text() + " ")
    elif change == "no page":
        page.unlink()
    else:
        monkeypatch.setattr(current_page, "code_digest", lambda: "another")
    write_current_report(store, page)
    assert len(written) == 2
    assert page.read_text() == write_report(store, tmp_path / "other.html").read_text()
    write_current_report(store, page)
    assert len(written) == 2


def test_another_page_of_the_same_store_is_written(make_store: Make, answered: Columns, tmp_path: Path, written: list[Path]) -> None:
    store = make_store({("m", "clean", ""): answered([True] * 4)})
    for name in ("a.html", "b.html"):
        assert write_current_report(store, tmp_path / name).is_file()
    assert len(written) == 2
