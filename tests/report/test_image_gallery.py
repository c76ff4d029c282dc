"""Sample images of a report."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from robustvit.records.store import Store
from robustvit.report.image_gallery import data_uri, image_budget, image_gallery
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import leaderboard


def test_a_gallery_follows_one_sample_through_first_middle_and_last_severity(
    make_store: Callable[..., Store], answered: Callable[..., Any], add_images: Callable[..., None], encoded: Callable[..., bytes]
) -> None:
    store = make_store({("demo", "fog", str(severity)): answered([True, False]) for severity in range(1, 6)})
    add_images(store, encoded())
    class_names = {cell: ["zero", "one"] for cell in store.cells()}
    found = image_gallery(store, results_by_suite(leaderboard(store))[0].models[0], class_names)
    assert found is not None
    assert [(image.level, image.prediction, image.correct) for image in found.strips[0].images] == [
        ("1", "one", False),
        ("3", "one", False),
        ("5", "one", False),
    ]
    assert found.strips[0].label == "zero"


def test_labels_without_names_are_shown_as_numbers(store: Store, suite: SuiteResults) -> None:
    found = image_gallery(store, suite.models[0], {})
    assert found is not None
    assert (found.strips[0].title, found.strips[0].label, found.strips[0].images[0].prediction) == ("clean", "0", "1")


def test_a_prediction_without_a_class_name_is_none(store: Store, suite: SuiteResults) -> None:
    found = image_gallery(store, suite.models[0], {cell: ["zero"] for cell in store.cells()})
    assert found is not None
    assert (found.strips[0].label, found.strips[0].images[0].prediction) == ("zero", "none")


@pytest.mark.parametrize(("budget", "titles"), [(48, ["colour"] * 2 + ["edge"] * 2), (3, ["colour", "edge"]), (1, ["colour"])])
def test_scenarios_without_common_samples_show_their_own(
    budget: int, titles: list[str],
    make_store: Callable[..., Store], answered: Callable[..., Any], encoded: Callable[..., bytes],
) -> None:  # fmt: skip
    store = make_store({("demo", name, ""): answered([True, False]) for name in ("colour", "edge")})
    for place, cell in enumerate(store.cells()):
        rows = {"sample": [f"{place}/a", f"{place}/b"], "label": [0, 1], "pred": [1, 1], "image": [encoded()] * 2}
        store.write_gallery(cell, pa.table(rows))
    found = image_gallery(store, results_by_suite(leaderboard(store))[0].models[0], {}, budget)
    assert found is not None
    assert [strip.title for strip in found.strips] == titles


def test_a_damaged_gallery_is_reported_and_the_others_are_shown(store: Store, suite: SuiteResults) -> None:
    (gallery,) = (store.path / "cells" / store.cells()[0]).glob("gallery*.parquet")
    gallery.write_bytes(b"PAR1")
    galleries = [image_gallery(store, model, {}) for model in suite.models]
    assert any(one is not None and gallery.name in one.damaged for one in galleries)


def test_small_images_are_embedded_unchanged_and_large_ones_downscaled(encoded: Callable[..., bytes]) -> None:
    small, crisp = data_uri(encoded(32))
    large, blurred = data_uri(encoded(400, "JPEG"))
    assert (small.startswith("data:image/png"), crisp) == (True, True)
    assert (large.startswith("data:image/jpeg"), blurred) == (True, False)
    assert len(large) < 40_000


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"\x89PNG\r\n\x1a\nnot really"])
def test_bytes_that_are_no_image_are_not_embedded(content: bytes) -> None:
    assert data_uri(content) == ("", False)


def test_many_models_share_the_budget_of_a_page() -> None:
    assert image_budget(1) == 48
    assert image_budget(100) == 16


@pytest.mark.parametrize(("budget", "levels", "left_out"), [(6, ["1", "3", "5"], 0), (4, ["1", "5"], 0), (2, ["3"], 0), (1, ["3"], 1)])
def test_a_short_budget_takes_severities_before_scenarios(
    budget: int, levels: list[str], left_out: int,
    make_store: Callable[..., Store], answered: Callable[..., Any], add_images: Callable[..., None], encoded: Callable[..., bytes],
) -> None:  # fmt: skip
    store = make_store({("demo", name, str(level)): answered([True, False]) for name in ("fog", "snow") for level in range(1, 6)})
    add_images(store, encoded())
    found = image_gallery(store, results_by_suite(leaderboard(store))[0].models[0], {}, budget)
    assert found is not None
    assert [image.level for image in found.strips[0].images] == levels
    assert found.left_out == left_out
