"""Where memory runs out a cell is computed with half the rows of a forward pass, and half again, down to one."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import ModelError
from robustvit.evaluation.cost.tile_limits import TileLimits
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.tasks import tasks_of
from robustvit.evaluation.worker import Worker
from robustvit.primitives.classifier import Classifier
from robustvit.records.store import Store
from robustvit.spec.spec import canonical

CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
LIMIT = 20


class Memory:
    """So many rows fit into it; `gradients` only of passes that keep what a backward pass needs."""

    def __init__(self, most: int, error: Callable[[], Exception] | None = None, *, gradients: bool = False) -> None:
        self.most, self.error, self.gradients = most, error or (lambda: torch.OutOfMemoryError("CUDA out of memory.")), gradients

    def demo(self, tile: int = 64) -> Classifier:
        """The demo, whose first block raises where more rows come than fit."""

        def check(block: nn.Module, given: tuple[Tensor]) -> None:
            if len(given[0]) > self.most and (torch.is_grad_enabled() or not self.gradients):
                raise self.error()

        model = rv.load_model("demo", tile=tile)
        model.model.blocks[0].register_forward_pre_hook(check)
        return model


def suite(folder: Path, scenarios: str, more: str = "") -> Path:
    page = folder / "s.yaml"
    page.write_text(f"{{name: s, title: s, data: digits, {more} scenarios: [{scenarios}], metrics: [top1]}}")
    return page


def run(folder: Path, scenarios: str, model: Classifier, name: str, more: str = "") -> Any:
    return rv.run(suite(folder, scenarios, more), [model], store=folder / name, limit=LIMIT, progress=False)


def tables(store: Path) -> dict[str, pd.DataFrame]:
    return {f"{one.scenario} {one.transforms}": frame for one, frame in rv.load_records(store)}


def tiles(store: Path) -> set[int]:
    place = Store(store)
    return {file.about()["tile"] for cell in place.cells() for file in place.files(cell)}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "memory ran out" in one.getMessage()]


@pytest.mark.parametrize(
    ("scenarios", "most", "tile"),
    [
        ("clean, fog: {severity: 1}", 20, 16), ("clean", 4, 4), ("pgd: {eps: 2/255, steps: 3, restarts: 2}", 20, 16),
        ("autoattack: {eps: 32/255}", 20, 16), ("columns: {width: 4}", 20, 8),
        ("uap: {eps: 16/255, train: 'digits?split=train', samples: 24, epochs: 1}", 10, 8),
    ],
)  # fmt: skip
def test_every_row_is_computed_and_equals_that_of_a_run_at_the_last_tile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scenarios: str, most: int, tile: int
) -> None:
    with caplog.at_level(logging.WARNING):
        done = run(tmp_path, scenarios, Memory(most).demo(), "r")
    assert not done.failed
    assert done.computed == LIMIT * done.cells
    assert lines(caplog) == [f"memory ran out on demo: a forward pass had 64 rows and has {tile} now."]
    assert tiles(tmp_path / "r") == {tile}
    run(tmp_path, scenarios, Memory(1000).demo(tile), "w")
    here, there = tables(tmp_path / "r"), tables(tmp_path / "w")
    assert here.keys() == there.keys()
    assert all(frame.equals(there[name]) for name, frame in here.items())


def test_what_fits_one_row_at_a_time_is_computed_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = run(tmp_path, "pgd: {eps: 2/255, steps: 1}", Memory(1, gradients=True).demo(4), "r")
    assert (done.failed, done.computed, tiles(tmp_path / "r")) == ({}, LIMIT, {1})
    assert lines(caplog) == ["memory ran out on demo: a forward pass had 4 rows and has 1 now."]


LEARNED = "transforms: [[{head_pruning: {amount: 0.5, importance: taylor, calibration: 'digits?split=train', samples: 40}}]],"


def test_what_a_transform_learns_is_learned_with_smaller_tiles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        done = run(tmp_path, "clean", Memory(20, gradients=True).demo(), "r", LEARNED)
    assert not done.failed
    assert len(lines(caplog)) == 1
    assert tiles(tmp_path / "r") == {16}
    run(tmp_path, "clean", Memory(1000).demo(16), "w", LEARNED)
    here, there = tables(tmp_path / "r"), tables(tmp_path / "w")
    assert all(frame.equals(there[name]) for name, frame in here.items())


def from_another() -> Exception:
    try:
        raise ModelError("model 'demo' raised OutOfMemoryError") from torch.OutOfMemoryError("CUDA out of memory.")
    except ModelError as error:
        return error


@pytest.mark.parametrize("error", [lambda: RuntimeError(CPU_ALLOCATOR), MemoryError, from_another])
def test_any_lack_of_memory_halves_the_tile(tmp_path: Path, error: Callable[[], Exception]) -> None:
    done = run(tmp_path, "clean", Memory(20, error).demo(), "r")
    assert (done.failed, done.computed) == ({}, LIMIT)


def test_another_error_halves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = run(tmp_path, "clean", Memory(20, lambda: RuntimeError("shapes differ")).demo(), "r")
    assert list(done.failed.values()) == ["RuntimeError: shapes differ"]
    assert not lines(caplog)


def test_a_tile_of_one_row_that_does_not_fit_fails_its_cell_and_the_next_has_the_whole_tile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = run(tmp_path, "pgd: {eps: 2/255, steps: 2}, clean", Memory(0, gradients=True).demo(), "r")
    (reason,) = done.failed.values()
    assert reason.startswith("OutOfMemoryError: CUDA out of memory.")
    assert "with one row of a forward pass" in reason
    assert tiles(tmp_path / "r") == {64}
    assert done.computed == LIMIT
    assert not lines(caplog)


def test_a_tile_is_halved_for_its_pipeline_alone_and_once(tmp_path: Path) -> None:
    memory = Memory(20)
    model, store = memory.demo(), Store(tmp_path / "r", create=True)
    plan = make(
        rv.load_suite(suite(tmp_path, "clean, fog: {severity: 1}", "transforms: [[], [quantize]],")), [model], None, Settings(limit=8)
    )
    (part,) = plan.planned
    worker = Worker(plan, store, "")

    def tile(of: str, transforms: int, most: int) -> int:
        memory.most = most
        (cell,) = (one for one in part.unique if one.scenario.name == of and len(one.transforms) == transforms)
        store.declare(cell.id, canonical(cell.as_dict()))
        for task in tasks_of(part, cell, store):
            worker.do(task)
        (file,) = store.files(cell.id)
        return int(file.about()["tile"])

    assert [tile("clean", 1, 20), tile("clean", 0, 1000), tile("fog", 1, 1000), tile("fog", 0, 40)] == [16, 64, 16, 32]


class Wrapping(nn.Module):
    def __init__(self, inner: Classifier) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def classifier(module: nn.Module, tile: int) -> Classifier:
    return Classifier(module, mean=0.0, std=1.0, size=4, name="m", tile=tile)


def test_what_a_model_wraps_is_halved_with_it_each_from_its_own() -> None:
    inner = classifier(nn.Flatten(), 6)
    outer, limits, left = classifier(Wrapping(inner), 32), TileLimits(), [MemoryError(), MemoryError()]

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    inside = next(one for one in outer.modules() if isinstance(one, Classifier) and one is not outer)
    assert limits.fitting(work, "p", lambda: [outer]) == "done"
    assert (outer.tile, inside.tile) == (8, 1)
    limits.apply("other", outer)
    assert (outer.tile, inside.tile) == (32, 6)
    limits.apply("p", outer)
    assert (outer.tile, inside.tile) == (8, 1)


def needing(model: Classifier, most: int, error: type[Exception] = MemoryError) -> Callable[[], int]:
    """A work that has memory for so many rows."""

    def work() -> int:
        if model.tile > most:
            raise error("no memory")
        return model.tile

    return work


def test_one_line_says_the_tile_that_was_and_the_tile_that_is(caplog: pytest.LogCaptureFixture) -> None:
    model, limits = classifier(nn.Flatten(), 64), TileLimits()
    with caplog.at_level(logging.WARNING):
        assert [limits.fitting(needing(model, most), "p", lambda: [model]) for most in (20, 20, 64)] == [16, 16, 16]
    assert lines(caplog) == ["memory ran out on m: a forward pass had 64 rows and has 16 now."]


def test_a_failure_at_one_row_leaves_the_tile_as_it_was() -> None:
    model, limits = classifier(nn.Flatten(), 64), TileLimits()
    limits.fitting(needing(model, 32), "p", lambda: [model])
    with pytest.raises(MemoryError):
        limits.fitting(needing(model, 0), "p", lambda: [model])
    assert limits.fitting(needing(model, 64), "p", lambda: [model]) == 32


def test_an_error_of_another_kind_is_raised_at_once() -> None:
    model = classifier(nn.Flatten(), 64)
    with pytest.raises(RuntimeError, match="no memory"):
        TileLimits().fitting(needing(model, 32, RuntimeError), "p", lambda: [model])
    assert model.tile == 64


@pytest.fixture
def _no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("cyclic", [False, True])
def test_tensors_of_the_failed_try_are_gone_before_the_next(cyclic: bool) -> None:
    model, made, alive = classifier(nn.Flatten(), 8), list[Any](), list[bool]()

    def work() -> int:
        alive.extend(one() is not None for one in made)
        tensor = torch.zeros(model.tile, 3)
        made.append(weakref.ref(tensor))
        if model.tile > 1:
            error = torch.OutOfMemoryError("CUDA out of memory.")
            if cyclic:
                error.of = error  # type: ignore[attr-defined]
            raise error
        return len(tensor)

    assert TileLimits().fitting(work, "p", lambda: [model]) == 1
    assert len(made) == 4
    assert not any(alive)


def test_what_the_allocator_keeps_is_freed_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = classifier(nn.Flatten(), 2), list[str]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))

    def work() -> None:
        calls.append("tried")
        if model.tile > 1:
            raise MemoryError

    TileLimits().fitting(work, "p", lambda: [model])
    assert calls == ["tried", "emptied", "tried"]
