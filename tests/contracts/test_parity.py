"""The published parity table, checked against the outputs of the reference generators."""

import os
from pathlib import Path

import parity
import pytest

from robustvit.corruptions import get_corruption_names


def test_no_corruption_is_left_out() -> None:
    names = [(name, severity) for name in get_corruption_names("all") for severity in range(1, 6)]
    assert [(row.corruption, row.severity) for row in parity.published() if row.reference == "hendrycks"] == names
    assert {row.found for row in parity.published()} <= set(parity.CLASSES)


def test_every_rows_class_is_that_of_the_compact_set() -> None:
    pytest.importorskip("cv2", exc_type=ImportError, reason="the drop-in's frost needs OpenCV")
    for row, published in zip(parity.small(), parity.published(), strict=True):
        machine = row.corruption in parity.BY_MACHINE and row.found == parity.NEAR and published.found == parity.EXACT
        assert row[:4] == published[:4] or machine


def test_the_drop_in_gives_imagecorruptions_bytes_but_for_one_value() -> None:
    apart = [row for row in parity.published() if row.reference == "imagecorruptions" and row.found != parity.EXACT]
    assert [(row.corruption, row.severity, row.found) for row in apart] == [("motion_blur", 3, parity.NEAR)]


@pytest.mark.slow
@pytest.mark.skipif("ROBUSTVIT_GOLDEN" not in os.environ, reason="ROBUSTVIT_GOLDEN names no folder of full-size golden files")
def test_the_page_is_what_the_full_size_comparison_gives() -> None:
    rows = parity.full(Path(os.environ["ROBUSTVIT_GOLDEN"]))
    assert parity.page(rows) == parity.PAGE.read_text(encoding="utf-8")
