"""A small suite with a chain of attacks and a certificate, and what one process computes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import robustvit as rv
from robustvit.records.records import read
from robustvit.records.store import Store

LIMIT = 8
TEXT = """
name: shared
title: A bit of everything
data: digits
scenarios:
  - clean
  - fog: {severity: [1, 3]}
  - autoattack: {eps: 16/255}
  - columns: {width: 3}
metrics: [top1]
"""


@pytest.fixture(scope="session")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "shared.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def alone(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that one process filled."""
    store = tmp_path_factory.mktemp("alone") / "store"
    rv.run(suite_file, ["demo"], store=store, limit=LIMIT, progress=False)
    return store


@pytest.fixture
def same_rows() -> Callable[[Path, Path], bool]:
    """Whether two stores have the same rows, to the bit."""

    def compare(one: Path, other: Path) -> bool:
        a, b = Store(one), Store(other)
        assert a.cells() == b.cells()
        for cell in a.cells():
            pd.testing.assert_frame_equal(read(a.files(cell)), read(b.files(cell)), check_exact=True)
        return True

    return compare
