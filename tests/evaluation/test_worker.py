"""A worker takes a task and answers Done, Busy or Failed, in this process or in another one."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import pytest

import robustvit as rv
from robustvit.evaluation import plan as plans
from robustvit.evaluation.tasks import Busy, Done, Failed, Outcome, Task, planned_of, tasks_of
from robustvit.evaluation.worker import Worker
from robustvit.records.records import read
from robustvit.records.store import Store
from robustvit.spec.spec import canonical

LIMIT = 8


def planned() -> plans.Plan:
    return plans.make(rv.load_suite("quick"), ["demo"], "digits", plans.Settings(limit=LIMIT))


def tasks(plan: plans.Plan, store: Store, *names: str) -> list[Task]:
    """The tasks of the scenarios of some names, declared as a run does."""
    found = [task for part in plan.planned for cell in part.unique for task in tasks_of(part, cell, store) if cell.scenario.name in names]
    for task in found:
        store.declare(task.cell.id, canonical(task.cell.as_dict()))
    return found


def elsewhere(store: Path, parcel: bytes) -> bytes:
    """What another process does with a pickled task: it has its own plan, and the store's place."""
    return pickle.dumps(Worker(planned(), Store(store), "there").do(pickle.loads(parcel)))


def test_a_task_sent_to_another_process_gives_the_rows_that_it_gives_here(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here", create=True), Store(tmp_path / "there", create=True)
    plan = planned()
    sent = tasks(plan, here, "clean", "fog")[:2]
    for task in sent:
        assert Worker(plan, here, "here").do(task) == Done(LIMIT)
        there.declare(task.cell.id, canonical(task.cell.as_dict()))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        outcomes: list[Outcome] = [pickle.loads(pool.apply(elsewhere, (there.path, pickle.dumps(task)))) for task in sent]
    assert outcomes == [Done(LIMIT), Done(LIMIT)]
    for task in sent:
        assert read(here.files(task.cell.id)).equals(read(there.files(task.cell.id)))


def test_a_task_whose_lease_another_holds_is_busy_and_nothing_is_written(tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "s", create=True), planned()
    (task,) = tasks(plan, store, "clean")
    with store.lease(task.cell.id, task.shard) as mine:
        assert mine
        assert Worker(plan, store, "").do(task) == Busy()
    assert store.reached(task.cell.id, 0) == 0


def test_a_task_that_is_done_already_computes_nothing(tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "s", create=True), planned()
    (task,) = tasks(plan, store, "clean")
    worker = Worker(plan, store, "")
    assert [worker.do(task), worker.do(task)] == [Done(LIMIT), Done(0)]


def test_a_scenario_that_raises_fails_its_cell_and_all_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, plan = Store(tmp_path / "s", create=True), planned()
    (task,) = tasks(plan, store, "clean")
    worker = Worker(plan, store, "")
    monkeypatch.setattr("robustvit.evaluation.worker.evaluate", lambda *given, **named: 1 / 0)
    assert worker.do(task) == Failed("ZeroDivisionError: division by zero")
    assert store.failure(task.cell.id) == "ZeroDivisionError: division by zero"
    monkeypatch.undo()
    assert worker.do(task) == Failed("ZeroDivisionError: division by zero")
    assert Worker(plan, store, "").do(task) == Done(LIMIT)
    assert store.failure(task.cell.id) is None


def test_a_task_of_another_plan_is_refused(tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "s", create=True), planned()
    (task,) = tasks(plan, store, "clean")
    stranger = Task("other", task.data, task.cell, 0, 0, LIMIT)
    with pytest.raises(LookupError, match="has no model 'other'"):
        planned_of(plan, stranger)
