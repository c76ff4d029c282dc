"""Sample images of a report."""

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from robustvit.records.store import Store
from robustvit.report.image_gallery import image_budget, image_gallery
from robustvit.report.samples.image_uris import amplified_differences, data_uri
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import leaderboard
from robustvit.spec import registry


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


def attacked(make_store: Callable[..., Store], answered: Callable[..., Any], images: dict[str, bytes], attack: str = "pgd") -> Any:
    """The gallery of a store with a clean cell and two of an attack. images: by the severity, "" for clean."""
    cells = {
        ("demo", attack if level else "clean", level): answered([True, False], attacked=[True] * 2 if level else None) for level in images
    }
    store = make_store(cells, metrics=("top1", "robust_accuracy"))
    for cell in store.cells():
        severity = next(one.severity for manifest in store.manifests() for one in manifest.cells if one.cell == cell)
        rows = {"sample": ["s00000"], "label": [0], "pred": [1], "image": [images[severity]]}
        store.write_gallery(cell, pa.table(rows))
    found = image_gallery(store, results_by_suite(leaderboard(store))[0].models[0], {})
    assert found is not None
    return next(strip for strip in found.strips if strip.title == attack), next(strip for strip in found.strips if strip.title == "clean")


def shown(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), dtype=np.int64)


def png(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def test_attacked_images_have_their_difference_ten_times_around_grey(
    make_store: Callable[..., Store], answered: Callable[..., Any]
) -> None:
    clean = np.full((8, 8, 3), 100)
    change = np.random.default_rng(0).integers(-8, 9, clean.shape)
    strip, before = attacked(make_store, answered, {"": png(clean), "4/255": png(clean + change // 2), "8/255": png(clean + change)})
    assert (strip.factor, before.factor, before.images[0].difference) == (10, 0, "")
    assert [(shown(image.difference) - 128).tolist() for image in strip.images] == [(10 * (change // 2)).tolist(), (10 * change).tolist()]


def test_large_differences_are_amplified_less(make_store: Callable[..., Store], answered: Callable[..., Any]) -> None:
    clean = np.full((8, 8, 3), 100)
    strip, _ = attacked(make_store, answered, {"": png(clean), "1": png(clean + 40)})
    assert strip.factor == 2
    assert set(shown(strip.images[0].difference).ravel()) == {208}
    assert amplified_differences(png(clean), [png(clean + 155)]) == amplified_differences(png(clean), [png(clean + 155)])._replace(factor=1)


def test_images_of_another_size_have_no_difference(
    make_store: Callable[..., Store], answered: Callable[..., Any], encoded: Callable[..., bytes]
) -> None:
    strip, _ = attacked(make_store, answered, {"": encoded(8), "1": encoded(16)})
    assert (strip.factor, strip.images[0].difference) == (0, "")


def test_images_that_an_attack_moves_have_no_difference(
    make_store: Callable[..., Store], answered: Callable[..., Any], encoded: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.entries("attack")["worst_shift"].family == "spatial"
    monkeypatch.setattr("robustvit.report.image_gallery._MOVED", registry.entries("attack")["pgd"].family)
    strip, _ = attacked(make_store, answered, {"": encoded(8), "1": encoded(8)})
    assert strip.factor == 0
