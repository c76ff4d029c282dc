"""A view of a store that grows, is damaged, or is not there yet."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import stores

from robustvit.errors import StoreError
from robustvit.records.status.written import elapsed
from robustvit.records.store import Store
from robustvit.report.live import live_view
from robustvit.report.live.live_view import LiveView

Make, Answered = Callable[..., Store], Callable[..., Any]
NOW = 1_800_000_000.0


def text(view: LiveView) -> str:
    """The words of the page, once nothing is being computed."""
    view.page("/t")
    view.close(30)
    return words(view.page("/t").html)


def words(html: str) -> str:
    bare = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", bare).replace("\u00a0", " ").split())


@pytest.fixture
def cells(answered: Answered) -> dict[tuple[str, str, str], Any]:
    return {("a", "clean", ""): answered([True] * 3 + [False]), ("a", "fog", "1"): answered([True] * 2), ("a", "fog", "2"): None}


def test_the_page_says_how_far_the_run_is_and_has_the_numbers_so_far(make_store: Make, cells: Any) -> None:
    store = make_store(cells, asked=4, metrics=("top1", "corruption_error"))
    for file in (store.path / "cells").glob("*/*.parquet"):
        os.utime(file, (NOW - 42, NOW - 42))
    found = text(LiveView(store.path, now=lambda: NOW))
    assert "a: made-up on digits" in found
    assert "1 of 3 cells 6 of 12 rows last new row 42 s ago" in found
    assert "50 %" in found
    assert re.search(r"clean top-1 75\.0 % \[30\.\d, 9\d\.\d\] 4 images", found)
    assert "1 partial 1 not begun 1 complete" in found
    assert "fog 1 · 2 of 4 partial 2 ○ not begun" in found
    assert "is the run still going?" not in found


def test_a_number_of_some_rows_is_partial_and_one_of_missing_cells_is_only_counted(make_store: Make, answered: Answered) -> None:
    rows = {("a", "clean", ""): answered([True] * 2), ("a", "fog", "1"): answered([True] * 4), ("a", "fog", "2"): None}
    found = text(LiveView(make_store(rows, asked=4, metrics=("top1", "corruption_error")).path))
    assert re.search(r"clean top-1 100\.0 % \[\S+ \S+ partial 2 of 4 samples", found)
    assert "1 more number of this model needs cells that are not complete." in found


def test_a_run_without_new_rows_for_five_minutes_is_asked_about_unless_it_is_over(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "clean", ""): answered([True] * 2)}, asked=4)
    (file,) = (store.path / "cells").glob("*/*.parquet")
    os.utime(file, (NOW - 299, NOW - 299))
    assert "No new rows" not in text(LiveView(store.path, now=lambda: NOW))
    os.utime(file, (NOW - 300, NOW - 300))
    found = text(LiveView(store.path, now=lambda: NOW))
    assert "No new rows for 5 min: is the run still going?" in found
    assert "robustvit run --model demo" in found
    complete = make_store({("a", "clean", ""): answered([True] * 2)}, name="complete")
    over = text(LiveView(complete.path, now=lambda: NOW * 2))
    assert "No new rows" not in over
    assert "complete 1 of 1 cells" in over


def test_failed_cells_are_named_with_their_reason(make_store: Make, cells: Any) -> None:
    store = make_store({key: one for key, one in cells.items() if one is None or key[1] == "clean"})
    store.fail(next(cell.cell for cell in store.manifests()[0].cells if cell.severity == "2"), "no <fog> today")
    view = LiveView(store.path)
    assert "over, 1 failed" in text(view)
    assert "failed a · fog 2 : no &lt;fog&gt; today" in text(view)


def test_a_view_waits_for_a_store_and_for_its_first_run(tmp_path: Path, make_store: Make, cells: Any) -> None:
    view = LiveView(tmp_path / "results")
    assert f"There is no store yet at {tmp_path / 'results'}" in text(view)
    assert view.page("/t").there
    Store(tmp_path / "results", create=True)
    assert "no run has begun on it" in text(view)
    make_store(cells, asked=4)
    assert "1 of 3 cells" in text(view)
    shutil.rmtree(tmp_path / "results")
    assert "There is no store yet" in text(view)


def test_a_page_grows_with_the_store(make_store: Make, answered: Answered) -> None:
    store = make_store({("a", "clean", ""): None}, asked=4)
    view = LiveView(store.path)
    seen = [text(view)]
    make_store({("a", "clean", ""): answered([True] * 4)}, asked=4)
    view._numbers._rest_until = 0.0  # numbers may be computed again at once
    seen.append(text(view))
    assert "0 of 1 cells 0 of 4 rows" in seen[0]
    assert "No cell has rows yet" in seen[0]
    assert "1 of 1 cells 4 of 4 rows" in seen[1]
    assert "clean top-1 100.0 %" in seen[1]


def test_a_store_that_does_not_change_is_not_read_again(make_store: Make, cells: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = LiveView(make_store(cells, asked=4).path, now=lambda: NOW)
    before, report = text(view), view.report("/t").html
    for name in ("Store", "run_manifests", "newest_run", "build_leaderboard", "render"):
        monkeypatch.setattr(live_view, name, None)  # whoever calls it fails
    assert [text(view) for _ in range(3)] == [before] * 3
    assert view.report("/t").html == report


def test_the_report_is_that_of_the_report_command_and_follows_the_store(make_store: Make, cells: Any) -> None:
    store = make_store(cells, asked=4)
    view = LiveView(store.path)
    first = view.report("/t")
    assert first.there
    assert "Robustness of a" in first.html
    make_store({("b", "clean", ""): cells["a", "clean", ""]}, suite="other")
    assert "Robustness of 2 models" in view.report("/t").html
    assert "Robustness of b" in LiveView(store.path, models=["b"]).report("/t").html


def test_nothing_is_written(make_store: Make, cells: Any) -> None:
    store = make_store(cells, asked=4)
    tree = {path: path.stat().st_mtime_ns for path in (store.path, *store.path.rglob("*"))}
    view = LiveView(store.path)
    assert "clean top-1" in text(view)
    assert view.report("/t").there
    assert {path: path.stat().st_mtime_ns for path in (store.path, *store.path.rglob("*"))} == tree


def test_a_damaged_file_of_rows_is_named_and_its_cell_failed(make_store: Make, cells: Any) -> None:
    store = make_store(cells, asked=4)
    view = LiveView(store.path)
    assert "1 partial 1 not begun 1 complete" in text(view)
    (file,) = store.files(next(cell.cell for cell in store.manifests()[0].cells if cell.scenario == "clean"))
    file.path.write_bytes(file.path.read_bytes()[:-9])
    view._numbers._rest_until = 0.0
    found = text(view)
    assert f"a · clean : {file.path} is not whole" in found
    assert "1 failed 1 partial 1 not begun" in found
    assert "0 of 3 cells" in found
    assert view.report("/t").there


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "marker": (lambda root: (root / "store.json").write_text("{"), "store.json is damaged"),
    "newer": (lambda root: (root / "store.json").write_text('{"schema": 99}'), "has schema 99"),
    "manifest": (lambda root: next((root / "runs").iterdir()).write_text("{"), "all manifests of the store"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_told_and_the_view_goes_on(make_store: Make, cells: Any, damage: str) -> None:
    store = make_store(cells, asked=4)
    view = LiveView(store.path)
    damaging, told = DAMAGES[damage]
    kept = {path: path.read_bytes() for path in (store.path / "store.json", next((store.path / "runs").iterdir()))}
    damaging(store.path)
    assert told in text(view)
    report = view.report("/t")
    assert not report.there
    assert told in words(report.html)
    for path, content in kept.items():
        path.write_bytes(content)
    assert "1 of 3 cells" in text(view)
    assert view.report("/t").there


def test_one_damaged_manifest_of_several_is_named_beside_the_run(make_store: Make, cells: Any) -> None:
    store = make_store(cells, asked=4)
    (store.path / "runs" / "ffff.json").write_text("{")
    found = text(LiveView(store.path))
    assert "ffff.json cannot be read" in found
    assert "1 of 3 cells" in found


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "loop"])
@pytest.mark.parametrize("pattern", ["cells/*/0*.parquet", "cells/*/cell.json", "runs/*.json"])
def test_a_pipe_or_device_in_the_place_of_a_file_is_told(tmp_path: Path, make_store: Make, cells: Any, pattern: str, kind: str) -> None:
    whole = make_store({key: one for key, one in cells.items() if one is not None}, asked=4)
    view = LiveView(stores.stranger(whole.path, tmp_path / "strange", pattern, kind))
    assert {"cells/*/0*.parquet": ".parquet", "cells/*/cell.json": "cell.json"}.get(pattern, "all manifests of the store") in text(view)
    view.report("/t")


@pytest.mark.parametrize("place", ["file", "folder", "file/below"])
def test_what_is_no_store_is_refused_at_the_door(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("x")
    with pytest.raises(StoreError, match="store"):
        LiveView(tmp_path / place)


def test_a_suite_or_model_that_no_run_requested_is_refused_at_the_door(tmp_path: Path, make_store: Make, cells: Any) -> None:
    store = make_store(cells)
    with pytest.raises(StoreError, match=r"has no suite 'made-down'\. Did you mean 'made-up'"):
        LiveView(store.path, "made-down")
    with pytest.raises(StoreError, match="has no model 'b'"):
        LiveView(store.path, models=["b"])
    view = LiveView(tmp_path / "absent", "made-down")  # that may be its suite
    make_store(cells, name="absent")
    assert "has no suite &#39;made-down&#39;" in text(view)


def test_names_of_others_are_text_on_the_page(make_store: Make, cells: Any) -> None:
    store = make_store(cells, asked=4, suite="<script>alert(1)</script>")
    (manifest,) = store.manifests()
    hostile = '"><img src=x onerror=alert(2)>{{ 777*777 }}'
    changed = [replace(cell, model=hostile, scenario=hostile, severity=hostile, undefined=hostile) for cell in manifest.cells[1:]]
    (store.path / "runs" / f"{manifest.id}.json").unlink()
    store.write_manifest(replace(manifest, command="</pre><script>alert(3)</script>", cells=[manifest.cells[0], *changed]))
    view = LiveView(store.path, now=lambda: NOW)
    view.page("/t")
    view.close(30)
    page = view.page("/t").html
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert "603729" not in page
    assert "onerror=alert(2)&gt;" in page


def test_half_written_files_and_files_that_go_are_no_error(make_store: Make, cells: Any) -> None:
    """Whatever a moment of a growing store is like: each of its files missing in turn, or cut."""
    store = make_store(cells, asked=4)
    view = LiveView(store.path)
    for path in sorted(store.path.rglob("*.*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        for left in (content[: len(content) // 2], None):
            path.unlink() if left is None else path.write_bytes(left)
            assert view.page("/t").html.startswith("<!doctype html>")
            view.report("/t") if left is None else None
            path.write_bytes(content)
    view.close(30)
    view._numbers._rest_until = 0.0
    assert "1 of 3 cells" in text(view)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (7500, "2 h 5 min"), (86400 * 3.5, "3 d")],
)
def test_lengths_of_time_are_written_as_one_reads_them(seconds: float, written: str) -> None:
    assert elapsed(seconds) == written
