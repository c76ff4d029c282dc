"""The order in which several workers compute the tasks of one run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from robustvit.evaluation.executors.shares import Share


def task(name: str, seconds: float, waits: bool = False) -> Any:
    return SimpleNamespace(name=name, seconds=seconds, cell=SimpleNamespace(waits_for="another" if waits else None))


TASKS = [task("b", 2.0), task("wait", 9.0, waits=True), task("e", 5.0), task("a", 1.0), task("d", 4.0), task("c", 3.0)]


def names(index: int, count: int) -> list[str]:
    return [one.name for one in Share(index, count).order(TASKS, lambda one: one.seconds)]


def test_a_worker_alone_keeps_the_order() -> None:
    assert names(0, 1) == [one.name for one in TASKS]


def test_each_of_two_begins_with_every_other_task_the_longest_first_and_then_takes_the_others_last_first() -> None:
    assert names(0, 2) == ["e", "c", "a", "b", "d", "wait"]
    assert names(1, 2) == ["d", "b", "wait", "a", "c", "e"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_worker_knows_every_task_and_together_they_begin_with_each_once(count: int) -> None:
    orders = [names(index, count) for index in range(count)]
    assert all(sorted(one) == sorted(each.name for each in TASKS) for one in orders)
    own = [name for index, one in enumerate(orders) for name in one[: len(range(index, len(TASKS), count))]]
    assert sorted(own) == sorted(each.name for each in TASKS)


def test_the_first_leads_unless_another_process_does() -> None:
    assert Share().leads
    assert Share(0, 2).leads
    assert not Share(1, 2).leads
    assert not Share(0, 2, led=True).leads
