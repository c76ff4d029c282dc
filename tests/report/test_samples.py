"""The list of samples of a report, on the page and as a folder."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustvit.errors import StoreFull, UsageError
from robustvit.records.store import Store
from robustvit.report import page as page_module
from robustvit.report.page import write_bundle, write_report
from robustvit.report.samples.sample_rows import predictions_in, sample_groups
from robustvit.report.suite_results import results_by_suite
from robustvit.results.leaderboard import leaderboard


def numbers(packed: dict[str, Any]) -> list[int]:
    return np.frombuffer(base64.b64decode(packed["data"]), f"<i{packed['bytes']}").tolist()  # type: ignore[no-any-return]


def test_predictions_of_all_cells_are_beside_the_labels_by_sample(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    store = make_store({
        ("a", "clean", ""): answered([True, False, True]),
        ("a", "fog", "2"): answered([False, False], ids=["s00002", "s00000"]),
        ("b", "clean", ""): answered([False, True, True]),
    })  # fmt: skip
    (suite,) = results_by_suite(leaderboard(store))
    (group,) = sample_groups(store, suite, {cell: ["zero", "one"] for cell in store.cells()})
    packed = group.packed()
    assert (packed["samples"], numbers(packed["labels"]), packed["classes"]) == (["s00000", "s00001", "s00002"], [0, 0, 0], ["zero", "one"])
    assert [(one["model"], one["setting"], numbers(one["preds"])) for one in packed["cells"]] == [
        ("a", "clean", [0, 1, 0]), ("a", "fog 2", [1, -1, 1]), ("b", "clean", [1, 0, 0]),
    ]  # fmt: skip
    assert predictions_in([suite]) == 8


def test_wide_labels_take_four_bytes(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    rows = answered([True, False])
    rows |= {"label": np.array([40_000, 3]), "pred": np.array([40_000, 40_001])}
    store = make_store({("a", "clean", ""): rows})
    (group,) = sample_groups(store, results_by_suite(leaderboard(store))[0], {})
    packed = group.packed()
    assert (packed["labels"]["bytes"], numbers(packed["labels"]), numbers(packed["cells"][0]["preds"])) == (
        4,
        [40_000, 3],
        [40_000, 40_001],
    )


def test_a_page_has_its_rows_inside_unless_they_are_too_many(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_report(store, tmp_path / "few.html").read_text()
    (rows,) = re.findall(r'<script type="application/json" class="sample-rows">(.*?)</script>', text)
    assert len(json.loads(rows)["samples"]) == 20
    monkeypatch.setattr(page_module, "INLINE", 10)
    text = write_report(store, tmp_path / "many.html").read_text()
    assert 'class="sample-rows"' not in text
    assert "200 predictions are too many for a page of one file" in text


def test_a_bundle_has_rows_and_images_beside_the_page(store: Store, tmp_path: Path) -> None:
    page = write_bundle(store, tmp_path / "bundle")
    assert page == tmp_path / "bundle" / "index.html"
    packed = json.loads((page.parent / "rows-0.js").read_text().removeprefix("robustvitRows(0, ").removesuffix(");\n"))
    assert len(packed["images"]) == len(packed["cells"]) == 10
    (path,) = {str(one) for found in packed["images"].values() for one in found.values()} & {packed["images"]["0"]["0"]}
    assert (page.parent / path).read_bytes().startswith(b"\x89PNG")
    write_bundle(store, tmp_path / "bundle")


def test_a_bundle_never_mixes_with_other_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        write_bundle(store, tmp_path / "file")
    with pytest.raises(UsageError, match="holds other files"):
        write_bundle(store, tmp_path)
    with pytest.raises(StoreFull, match="cannot write the report"):
        write_bundle(store, tmp_path / "file" / "below")
