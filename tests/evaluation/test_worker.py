"""A worker takes a task and answers Done, Busy or Failed, in this process or in another one."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from other_process import LIMIT, do_task, planned

from robustvit.evaluation import plan as plans
from robustvit.evaluation.tasks import Busy, Done, Failed, Outcome, Task, planned_of, tasks_of
from robustvit.evaluation.worker import Worker
from robustvit.records.records import read, table
from robustvit.records.store import Store
from robustvit.spec.spec import canonical


def tasks(plan: plans.Plan, store: Store, *names: str) -> list[Task]:
    """The tasks of the scenarios of some names, declared as a run does."""
    found = [task for part in plan.planned for cell in part.unique for task in tasks_of(part, cell, store) if cell.scenario.name in names]
    for task in found:
        store.declare(task.cell.id, canonical(task.cell.as_dict()))
    return found


def test_a_task_sent_to_another_process_gives_the_rows_that_it_gives_here(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here", create=True), Store(tmp_path / "there", create=True)
    plan = planned()
    sent = tasks(plan, here, "clean", "fog")[:2]
    for task in sent:
        assert Worker(plan, here, "here").do(task) == Done(LIMIT)
        there.declare(task.cell.id, canonical(task.cell.as_dict()))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # a process that dies is an error, not a wait without end
        outcomes: list[Outcome] = [pickle.loads(pool.submit(do_task, there.path, pickle.dumps(task)).result()) for task in sent]
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


def test_the_next_attack_of_a_chain_goes_on_from_the_rows_of_its_own_samples(tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "s", create=True), planned()
    (task,) = tasks(plan, store, "clean")
    next_one = replace(task, cell=replace(task.cell, after=(task.cell.scenario,)), shard=1, begin=3, stop=6)
    for shard, first in ((0, 0), (1, 100)):
        rows = table({"sample": [str(first + i) for i in range(8)], "label": [0] * 8})
        store.write(next_one.cell.earlier.id, shard, 0, rows, {})
    earlier = Worker(plan, store, "")._earlier(next_one, 4)
    assert earlier is not None
    assert earlier["sample"].tolist() == ["104", "105"]
