"""Heat maps of what transforms learned for every class: every pixel is a learned value, and only declared ones are drawn."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import robustvit as rv
from robustvit.records.store import Store
from robustvit.report.class_maps import class_maps, drawn
from robustvit.report.colours import colour_scale, colour_step
from robustvit.report.labels import format_number
from robustvit.report.page import render
from robustvit.report.suite_results import results_by_suite
from robustvit.results.leaderboard import build_leaderboard
from robustvit.spec.cell import learned_id

SUITE = "{name: t, title: t, data: 'digits?part=evaluation', scenarios: [clean], metrics: [top1]}"
LEARNED = "demo+xprune(calibration=digits?part=calibration, samples=32, epochs=1)"


def pixels(svg: str) -> np.ndarray:
    uri = re.search(r'href="data:image/png;base64,([^"]+)"', svg)
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri[1]))))


def shade(value: float, low: float = 0.0, high: float = 1.0) -> list[int]:
    background = colour_scale()[colour_step(value - low, high - low)].background
    return [int(background[at : at + 2], 16) for at in (1, 3, 5)]


def test_every_pixel_is_the_shade_of_its_value_and_blocks_follow_each_other() -> None:
    blocks = [np.array([[0.0, 0.5, 1.0]]), np.array([[0.2, 0.3, 0.4], [0.9, 0.8, 0.7]])]
    found = pixels(svg := drawn(blocks, ["cat", "<dog>", "a name of many letters"]))
    assert found.tolist() == [[shade(value) for value in row] for row in np.concatenate(blocks)]
    assert [re.findall(r">(block \d)<", svg), "&lt;dog&gt;" in svg, "a name of man…" in svg] == [["block 0", "block 1"], True, True]
    assert svg.count('class="between"') == 1


def test_many_classes_have_no_names() -> None:
    svg = drawn([np.zeros((2, 1000))], [str(one) for one in range(1000)])
    assert re.findall(r'text-anchor="middle">([^<]+)<', svg) == ["0", "999"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "t.yaml").write_text(SUITE)
    assert not rv.run(folder / "t.yaml", [LEARNED, "demo+magnitude"], store=folder / "s", limit=8).failed
    return Store(folder / "s")


def test_the_page_draws_the_masks_of_heads_that_a_run_learned(store: Store) -> None:
    board = build_leaderboard(store)
    (suite,) = results_by_suite(board.rows)
    (found,) = (one for model in suite.models for one in class_maps(store, model, {}))
    question = store.describe(str(found.model.cells["cell"].iloc[0]))
    artifact = store.artifact(learned_id(question, 0))
    assert artifact is not None
    expected = np.concatenate([artifact[f"heads.{block}"] for block in range(4)])
    low, high = float(expected.min()), float(expected.max())
    assert pixels(found.svg).tolist() == [[shade(float(value), low, high) for value in row] for row in expected]
    assert (found.low, found.high) == (format_number(low), format_number(high))
    page = render(board, store)
    assert page.count('<figure class="class-map">') == 1
    assert "style=" not in found.svg, "the page's policy allows no style of its own"


def test_a_store_without_the_artifact_has_no_such_figure(store: Store, tmp_path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(store.path, bare)
    shutil.rmtree(bare / "learned")
    assert "Learned for every class" not in render(build_leaderboard(bare), Store(bare))
