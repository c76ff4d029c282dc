"""Maps of spectra and landscapes: means over images, of clean images once and of each shift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import robustvit as rv
from robustvit.records.records import read
from robustvit.records.store import Store
from robustvit.report.curves.analysis_maps import analysis_maps
from robustvit.report.labels import format_number
from robustvit.report.page import write_report
from robustvit.report.suite_results import results_by_suite
from robustvit.results.leaderboard import build_leaderboard
from robustvit.spec.suite_file import read_suite

SUITE = """
name: maps
title: Maps
data: digits
scenarios:
  - fourier: {corruption: {gaussian_noise: {severity: [3, 5]}}}
  - landscape: {points: 3}
metrics: [high_frequencies, landscape_rise]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "maps.yaml").write_text(SUITE)
    rv.run(read_suite(folder / "maps.yaml"), ["demo"], limit=6, store=folder / "store")
    return Store(folder / "store")


def test_a_map_is_the_mean_over_images_and_clean_ones_are_drawn_once(store: Store, tmp_path: Path) -> None:
    (suite,) = results_by_suite(build_leaderboard(store).rows)
    found = list(analysis_maps(store, suite.models))
    assert [one.what for one in found] == [
        "spectrum, clean", "spectrum, shifted, gaussian noise 3", "spectrum, shifted, gaussian noise 5", "landscape, clean",
    ]  # fmt: skip
    for cell in store.cells():
        rows = read(store.files(cell))
        columns = {"value_shifted_spectrum": found[1:3], "value_clean_landscape": found[3:]}
        for column, maps in columns.items():
            if column not in rows:
                continue
            mean = np.stack(rows[column].tolist()).astype(np.float64).mean(axis=0)
            ends = format_number(float(mean.min())), format_number(float(mean.max()))
            assert ends in [(one.low, one.high) for one in maps]
    assert 'aria-label="9 by 3 values"' in found[0].svg, "4 blocks, a grid of 4x4"
    assert 'aria-label="3 by 3 values"' in found[3].svg
    assert {one.n for one in found} == {6}
    write_report(store, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Spectra and landscapes" in text
    assert "this suite has no such result" not in text
