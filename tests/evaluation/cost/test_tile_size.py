"""Rows of a forward pass: as many as are fastest, and what tells that memory ran out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.evaluation.cost import tile_size
from robustvit.evaluation.cost.tile_size import fastest_tile, out_of_memory
from robustvit.primitives.classifier import Classifier
from robustvit.records.store import Store


class Greedy(nn.Module):
    """A model that has memory for so many rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.most, self.seen = nn.Linear(3 * 32 * 32, 10), most, set[int]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.add(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return self.line(images.flatten(1))


def greedy(most: int, tile: int = 64) -> Classifier:
    return Classifier(Greedy(most), mean=0.5, std=0.5, size=32, name="greedy", tile=tile)


def caused(cause: BaseException) -> RuntimeError:
    error = RuntimeError("the model raised")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True), (MemoryError(), True), (RuntimeError("can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True), (RuntimeError("shapes differ"), False),
        (caused(MemoryError()), True), (caused(ValueError()), False), (ValueError("out of memory"), False),
    ],
)  # fmt: skip
def test_what_is_a_lack_of_memory(error: BaseException, expected: bool) -> None:
    assert out_of_memory(error) is expected


def test_a_search_stops_at_what_memory_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = greedy(32)
    monkeypatch.setattr(tile_size, "_FASTER", 0.0)  # as if every doubling gained
    assert fastest_tile(model) == 32
    assert model.tile == 64


def test_a_search_stops_where_a_doubling_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {8: 4.0, 16: 3.0, 32: 2.9, 64: 1.0}
    monkeypatch.setattr(tile_size, "_seconds_per_row", lambda model, rows: times[rows])
    assert fastest_tile(greedy(1000)) == 16


def test_a_model_that_has_memory_for_too_few_rows_says_so() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        fastest_tile(greedy(4))


def suite(folder: Path) -> Path:
    page = folder / "s.yaml"
    page.write_text("{name: s, title: s, data: digits, scenarios: [clean, fog: {severity: 1}], metrics: [top1]}")
    return page


def test_a_run_halves_its_tiles_and_each_piece_knows_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = greedy(1000)
    monkeypatch.setattr(model.model, "most", 20)
    done = rv.run(suite(tmp_path), [model], store=tmp_path / "r", limit=100, batch_size="auto")
    assert (done.computed, done.failed) == (200, {})
    store = Store(tmp_path / "r")
    assert {file.about()["tile"] for one in store.questions() for file in store.files(one.cell)} == {16}
    rows = {one.scenario: frame for one, frame in rv.load_records(tmp_path / "r")}
    whole = rv.run(suite(tmp_path), [greedy(1000)], store=tmp_path / "w", limit=100)
    assert whole.computed == 200
    for one, frame in rv.load_records(tmp_path / "w"):
        assert np.allclose(frame["nll"], rows[one.scenario]["nll"], atol=1e-5)


def test_auto_is_a_device_too(tmp_path: Path) -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    rv.run(suite(tmp_path), ["demo"], store=tmp_path / "r", limit=4)
    store = Store(tmp_path / "r")
    assert {file.about()["device"].partition(":")[0] for one in store.questions() for file in store.files(one.cell)} == {expected}
