"""A small store with everything that a report shows: two models, a clean cell, corruptions, an attack, pictures, a failure."""

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

METRICS = ("top1", "corruption_error", "mce_alexnet", "robust_accuracy")


def picture(side: int = 8, kind: str = "PNG") -> bytes:
    """An encoded image of noise."""
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).save(sink, kind)
    return sink.getvalue()


def hang(store: Store, image: bytes, sample: str = "s00000") -> None:
    """Gives every answered cell of a store the same picture."""
    for cell in store.cells():
        if store.pieces(cell):
            columns = {"sample": [sample], "label": pa.array([0], pa.int32()), "pred": pa.array([1], pa.int32()), "image": [image]}
            store.write_gallery(cell, pa.table(columns))


def asked(answered: Callable[..., dict[str, Any]], *models: str) -> dict[tuple[str, str, str], Any]:
    """The cells of some models: the later a model, the worse."""
    cells: dict[tuple[str, str, str], Any] = {}
    for place, model in enumerate(models):
        right = 19 - 4 * place
        cells[model, "clean", ""] = answered([True] * right + [False] * (20 - right))
        for severity in (1, 3, 5):
            left = right - 2 * severity
            cells[model, "fog", str(severity)] = answered([True] * left + [False] * (20 - left))
        cells[model, "pgd", "1/255"] = answered([True] * 4 + [False] * 16, attacked=[True] * right + [False] * (20 - right))
    return cells


@pytest.fixture
def store(make_store: Callable[..., Store], answered: Callable[..., dict[str, Any]]) -> Store:
    """Two models with pictures."""
    made = make_store(asked(answered, "demo", "rival"), metrics=METRICS)
    hang(made, picture())
    return made


@pytest.fixture
def pictured() -> Callable[..., None]:
    """`hang`, for tests that cannot import this file."""
    return hang


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """`picture`, likewise."""
    return picture


@pytest.fixture
def questions(answered: Callable[..., dict[str, Any]]) -> Callable[..., dict[tuple[str, str, str], Any]]:
    """`asked`, likewise."""
    return lambda *models: asked(answered, *models)


@pytest.fixture
def html(store: Store, tmp_path: Path) -> Path:
    """The report of `store`."""
    from robustvit.report.page import write_report

    return write_report(store, tmp_path / "report.html")
