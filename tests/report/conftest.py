"""A small store with everything that a report shows: two models, a clean cell, corruptions, an attack, images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from robustvit.records.store import Store
from robustvit.report.page import write_report
from robustvit.report.suite_results import SuiteResults, results_by_suite
from robustvit.results.leaderboard import leaderboard

METRICS = ("top1", "corruption_error", "mce_alexnet", "robust_accuracy")


def _encoded(side: int = 8, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).save(sink, kind)
    return sink.getvalue()


def _add_images(store: Store, image: bytes, sample: str = "s00000") -> None:
    for cell in store.cells():
        if store.files(cell):
            columns = {"sample": [sample], "label": pa.array([0], pa.int32()), "pred": pa.array([1], pa.int32()), "image": [image]}
            store.write_gallery(cell, pa.table(columns))


def _cells(answered: Callable[..., dict[str, Any]], *models: str) -> dict[tuple[str, str, str], Any]:
    cells: dict[tuple[str, str, str], Any] = {}
    for place, model in enumerate(models):
        right = 19 - 4 * place
        cells[model, "clean", ""] = answered([True] * right + [False] * (20 - right))
        for severity in (1, 3, 5):
            robust = right - 2 * severity
            cells[model, "fog", str(severity)] = answered([True] * robust + [False] * (20 - robust))
        cells[model, "pgd", "1/255"] = answered([True] * 4 + [False] * 16, attacked=[True] * right + [False] * (20 - right))
    return cells


@pytest.fixture
def store(make_store: Callable[..., Store], answered: Callable[..., dict[str, Any]]) -> Store:
    """Two models with images."""
    made = make_store(_cells(answered, "demo", "rival"), metrics=METRICS)
    _add_images(made, _encoded())
    return made


@pytest.fixture
def suite(store: Store) -> SuiteResults:
    """The results of `store`."""
    (found,) = results_by_suite(leaderboard(store))
    return found


@pytest.fixture
def masked(make_store: Callable[..., Store], answered: Callable[..., Any]) -> list[SuiteResults]:
    """Two models, one of which is fooled by a single step more often than by many."""
    robust = {("honest", "fgsm"): 15, ("honest", "pgd"): 5, ("masked", "fgsm"): 5, ("masked", "pgd"): 15}
    cells = {(*key, "4/255"): answered([True] * n + [False] * (20 - n), attacked=[True] * 20) for key, n in robust.items()}
    return results_by_suite(leaderboard(make_store(cells, metrics=["robust_accuracy"])))


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Encodes an image of noise: (side, kind) to bytes."""
    return _encoded


@pytest.fixture
def add_images() -> Callable[..., None]:
    """Gives every computed cell of a store the same gallery image: (store, image, sample)."""
    return _add_images


@pytest.fixture
def cells(answered: Callable[..., dict[str, Any]]) -> Callable[..., dict[tuple[str, str, str], Any]]:
    """Cells of some models: the later a model, the less accurate."""
    return lambda *models: _cells(answered, *models)


@pytest.fixture
def html(store: Store, tmp_path: Path) -> Path:
    """The report of `store`."""
    return write_report(store, tmp_path / "report.html")
