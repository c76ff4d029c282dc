"""report --against on the command line."""

from typing import Any

import pytest


@pytest.fixture
def two(make_store, answered):  # type: ignore[no-untyped-def]
    """Two runs of one cell."""
    return [make_store({("demo", "fog", "1"): answered([True] * right + [False] * (20 - right))}, name=f"s{right}") for right in (18, 9)]


def test_a_comparison_is_a_page_or_a_folder(robustvit: Any, two: Any, tmp_path: Any) -> None:
    stores = ["--store", two[0].path, "--against", two[1].path]
    assert robustvit("report", *stores, "-o", tmp_path / "page.html").out.strip() == f"Report: {tmp_path / 'page.html'}"
    assert robustvit("report", *stores, "--bundle", tmp_path / "folder").out.strip() == f"Report: {tmp_path / 'folder' / 'index.html'}"
    assert (tmp_path / "folder" / "rows-0.js").is_file()


def test_a_store_is_not_compared_with_itself(robustvit: Any, two: Any) -> None:
    refused = robustvit("report", "--store", two[0].path, "--against", two[0].path)
    assert refused.code == 2
    assert refused.err.endswith(f"--against {two[0].path} is the store itself; name another one, of the same suite run again.")


def test_a_diff_shows_a_suite_and_a_model_of_both(robustvit: Any, two: Any) -> None:
    assert '"model":"demo"' in robustvit("diff", two[0].path, two[1].path, "--model", "demo", "--suite", "made-up", "--json").out.replace(
        " ", ""
    )
    assert "has no model 'absent'" in robustvit("diff", two[0].path, two[1].path, "--model", "absent").err
