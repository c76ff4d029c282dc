"""Maps of consistency over shifts: every pixel is the mean of a shift over images, and only whole grids are drawn."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import robustvit as rv
from robustvit.records.store import Store
from robustvit.report.colours import colour_scale, colour_step
from robustvit.report.page import render
from robustvit.report.shift_maps import drawn_shifts, shift_maps
from robustvit.report.suite_results import results_by_suite
from robustvit.results.leaderboard import build_leaderboard
from robustvit.spec.shift_conventions import ShiftRanges, shift_ranges

SUITE = """
name: t
title: t
data: digits
scenarios:
  - clean
  - shift_consistency: {convention: circ15, pairs: 1}
  - shift_consistency: {convention: circ15, grid: true}
metrics: [shift_consistency, unshifted_agreement]
"""


def pixels(svg: str) -> np.ndarray:
    uri = re.search(r'href="data:image/png;base64,([^"]+)"', svg)
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri[1]))))


def shades(values: np.ndarray) -> list[list[list[int]]]:
    low, span = values.min(), np.ptp(values)
    found = [[colour_scale()[colour_step(float(value - low), span)].background for value in row] for row in values]
    return [[[int(shade[at : at + 2], 16) for at in (1, 3, 5)] for shade in row] for row in found]


def ticks(svg: str, anchor: str) -> list[str]:
    return re.findall(rf'text-anchor="{anchor}">([^<]+)<', svg)


def test_every_pixel_is_the_shade_of_its_share_and_places_count_from_the_unshifted_image() -> None:
    values = np.arange(12.0).reshape(3, 4)
    svg = drawn_shifts(values, ShiftRanges((-1, 1), (0, 3), 0))
    assert pixels(svg).tolist() == shades(values)
    assert ticks(svg, "end") == ["-1", "0", "1"]
    assert ticks(svg, "middle") == ["0", "3", "px to the right"]
    assert ticks(drawn_shifts(np.zeros((32, 32)), shift_ranges("crop32", 9, 9)), "end") == ["-16", "0", "15"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "t.yaml").write_text(SUITE)
    assert not rv.run(folder / "t.yaml", ["demo"], store=folder / "s", limit=4).failed
    return Store(folder / "s")


def test_the_page_has_the_map_of_the_grid_alone(store: Store) -> None:
    board = build_leaderboard(store)
    (suite,) = results_by_suite(board.rows)
    (found,) = shift_maps(store, suite.models)
    frame = store.records().to_pandas()
    values = 100 * np.stack(frame["value_shift_map"].dropna().tolist()).mean(axis=0).reshape(15, 15)
    assert (found.convention, found.n, found.high) == ("circ15", 4, "100.0")
    assert pixels(found.svg).tolist() == shades(values)
    assert values[0, 0] == 100
    page = render(board, store)
    assert page.count("Consistency over shifts") == 1
    assert "circ15, 4 images" in page
    assert "style=" not in found.svg, "the page's policy allows no style of its own"


def test_a_store_without_a_grid_has_no_such_section(make_store, answered) -> None:
    store = make_store({("m", "clean", ""): answered([True, False])})
    assert "Consistency over shifts" not in render(build_leaderboard(store), store)
