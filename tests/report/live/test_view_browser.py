"""The page of a run in a real browser: it renews itself, keeps what was unfolded, and says when the view has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report.test_browser import axe, chromium, find, violations  # noqa: F401

from robustvit.cli.serving.server import PageServer, served
from robustvit.records.store import Store
from robustvit.report.live.live_view import LiveView

pytestmark = pytest.mark.browser


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    view = LiveView(tmp_path / "results")
    with served({"": view.page, "report": view.report}) as made:
        yield made
    view.close(30)


def seen(page: Any, wanted: Callable[[], bool]) -> None:
    """Waits until something is to be seen."""
    last = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < last, find(page, "body").text
        time.sleep(0.1)


def test_the_page_renews_itself_and_says_when_the_view_has_ended(
    chromium: Any,  # noqa: F811
    make_store: Callable[..., Store],
    answered: Callable[..., Any],
    tmp_path: Path,
) -> None:
    view = LiveView(tmp_path / "results")
    with served({"": view.page, "report": view.report}) as server:
        chromium.get(server.url)
        assert find(chromium, "h1").text == "No run yet"
        make_store({("a", "clean", ""): answered([True] * 2)}, asked=4)
        seen(chromium, lambda: "0 of 1 cells" in find(chromium, "header").text)
        find(chromium, "#cells summary").click()
        chromium.execute_script("window.here = 1")
        make_store({("a", "clean", ""): answered([True] * 4)}, asked=4)
        seen(chromium, lambda: "1 of 1 cells" in find(chromium, "header").text)
        assert chromium.title == "a: made-up on digits"
        assert chromium.execute_script("return window.here") == 1  # the page was not loaded again
        assert find(chromium, "#cells details").get_attribute("open") is None
        assert not find(chromium, "#ended").is_displayed()
    seen(chromium, lambda: find(chromium, "#ended").is_displayed())
    assert "The view has ended" in find(chromium, "footer").text
    assert [one["message"] for one in chromium.get_log("browser") if "ERR_CONNECTION_REFUSED" not in one["message"]] == []


def test_the_report_is_a_click_away_and_nothing_of_it_is_refused(
    chromium: Any,  # noqa: F811
    server: PageServer,
    make_store: Callable[..., Store],
    answered: Callable[..., Any],
) -> None:
    make_store({("a", level, ""): answered([True] * 4) for level in ("clean", "fog")})
    chromium.get(server.url)
    chromium.get_log("browser")
    find(chromium, "nav a").click()
    seen(chromium, lambda: chromium.title == "Robustness of a")
    find(chromium, "#ranking thead button").click()
    assert find(chromium, "#ranking thead th").get_attribute("aria-sort") != "none"
    assert chromium.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_serious_violation_and_nothing_is_wider_than_the_screen(
    chromium: Any,  # noqa: F811
    axe: str,  # noqa: F811
    server: PageServer,
    make_store: Callable[..., Store],
    answered: Callable[..., Any],
    width: int,
    scheme: str,
) -> None:
    cells = {("a", "clean", ""): answered([True] * 4), ("r", "fog", "1"): answered([True] * 2), ("a", "snow", "1"): None}
    store = make_store(cells, asked=4)
    store.fail(store.manifests()[0].cells[2].cell, "no snow " + "x" * 400)
    chromium.get(server.url)
    seen(chromium, lambda: "clean top-1" in find(chromium, "main").text)
    found = violations(chromium, axe, width, scheme)
    assert [one for one in found if one["impact"] in ("serious", "critical")] == []
    chromium.set_window_size(500 if width == 390 else width, 900)
    assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth")
