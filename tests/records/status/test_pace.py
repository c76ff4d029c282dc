"""Rates and times left, against closed forms, on stores whose files have set times."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from robustvit.records.compacted.compaction import compact
from robustvit.records.listing import list_store
from robustvit.records.run_progress import newest_run
from robustvit.records.status.pace import Pace, _student, pace
from robustvit.records.store import Store

T = 1_700_000_000.0
Made = Callable[..., Store]


@pytest.fixture
def made(make_store: Callable[..., Store], answered: Callable[..., Any]) -> Made:
    """A store with a file of as many rows as given at each time, and cells of six rows that have none."""

    def make(times: Sequence[float], rows: Sequence[int] | None = None, missing: int = 0) -> Store:
        sizes = rows or [6] * len(times)
        cells = {("a", "fog", f"{number}"): answered([True] * size) for number, size in enumerate(sizes)}
        store = make_store({**cells, **{("a", "snow", f"{number}"): None for number in range(missing)}})
        for cell, when in zip(store.manifests()[0].cells, times, strict=False):
            (path,) = (store.path / "cells" / cell.cell).glob("*.parquet")
            os.utime(path, (when, when))
        return store

    return make


def found(store: Store, now: float, since: float | None = None) -> Pace | None:
    listing = list_store(store.path)
    run = newest_run(store, listing, store.manifests())
    assert run is not None
    return pace(run, listing, now, since)


def test_files_in_a_regular_step_give_their_rate_and_a_time_left_without_spread(made: Made) -> None:
    store = made([T + 10 * number for number in range(8)], missing=4)
    assert found(store, T + 75) == pytest.approx(Pace(0.6, 4 / 0.6, 4 / 0.6, 4 / 0.6))  # a cell without rows asks for one


def test_the_spread_is_that_of_a_sum_of_times_like_these(made: Made) -> None:
    steps, rows = [5.0, 20.0, 9.0, 14.0, 2.0, 31.0], [3, 9, 6, 6, 2, 10]
    store = made([T, *(T + np.cumsum(steps))], [6, *rows], missing=90)
    told = found(store, T + sum(steps))
    assert told is not None
    assert told.rate == pytest.approx(sum(rows) / sum(steps))
    scatter = [seconds - count * sum(steps) / sum(rows) for seconds, count in zip(steps, rows, strict=True)]
    k, variance = len(steps), float(np.square(scatter).sum()) / (len(steps) - 1)
    n = 90 / np.mean(rows)
    width = stats.t.ppf(0.975, k - 1) * math.sqrt(n * variance + n**2 * variance / k)
    assert (told.left, told.low, told.high) == pytest.approx((90 / told.rate, 90 / told.rate - width, 90 / told.rate + width), rel=3e-3)


def test_the_interval_does_not_begin_before_now(made: Made) -> None:
    told = found(made([T, T + 1, T + 2, T + 3, T + 4, T + 100], missing=2), T + 100)
    assert told is not None
    assert told.low == 0.0


def test_a_time_left_takes_five_steps_and_a_rate_one(made: Made) -> None:
    assert found(made([T, T + 10, T + 20, T + 30, T + 40], missing=1), T + 40) == Pace(0.6)
    assert found(made([T]), T + 1) is None
    assert found(made([T, T]), T + 1) is None


def test_a_file_that_is_overdue_lowers_the_rate(made: Made) -> None:
    store = made([T, T + 10, T + 40], missing=1)
    assert found(store, T + 70) == Pace(12 / 40)  # the longest step is 30 s
    assert found(store, T + 110) == Pace(12 / 80)


def test_a_run_that_nobody_is_seen_to_compute_has_stopped_after_a_while(made: Made) -> None:
    store = made([T, T + 10, T + 40], missing=1)
    assert found(store, T + 40 + 30 + 120) is not None
    assert found(store, T + 40 + 30 + 120.5) is None
    assert found(store, T + 40 + 30 + 120.5, since=T - 5) is not None


def test_the_time_of_the_first_file_begins_with_those_that_compute(made: Made) -> None:
    store = made([T - 90_000, T - 89_000, T + 10, T + 20], missing=1)
    assert found(store, T + 20, since=T) == Pace(12 / 20)


def test_files_of_ten_minutes_count_and_at_least_five(made: Made) -> None:
    quick = made([T - 5000 + 1000 * number for number in range(5)] + [T + 500 + 10 * number for number in range(8)], missing=1)
    told = found(quick, T + 600)
    assert told is not None
    assert told.rate == pytest.approx(6 * 7 / (70 + 30 - 10))  # from 500 to 570, and the next is overdue
    slow = found(quick, T + 1_000_000, since=T - 5500)
    assert slow is not None
    assert slow.rate == pytest.approx(6 * 5 / (50 + 1_000_000 - 570 - 10))


def test_what_is_from_the_future_does_not_count(made: Made) -> None:
    store = made([T, T + 10, T + 20, T + 1e6], missing=1)
    assert found(store, T + 20) == Pace(0.6)
    assert found(store, T - 1) is None
    assert found(store, T + 20, since=T + 1e6) is None


def test_failed_cells_are_not_waited_for(made: Made) -> None:
    store = made([T + 10 * number for number in range(7)], missing=3)
    for cell in store.manifests()[0].cells[-2:]:
        store.fail(cell.cell, "no")
    told = found(store, T + 60)
    assert told is not None
    assert told.left == pytest.approx(1 / 0.6)
    store.fail(store.manifests()[0].cells[-3].cell, "no")
    assert found(store, T + 60) == pytest.approx(Pace(0.6, 0.0, 0.0, 0.0))


def test_when_cells_were_compacted_tells_nothing(made: Made) -> None:
    store = made([T, T + 10])
    assert found(store, T + 10) is not None
    compact(store)
    for place, path in enumerate(sorted(store.path.glob("cells/*/*.parquet"))):
        os.utime(path, (T + 10 * place, T + 10 * place))
    assert found(Store(store.path), T + 100) is None


@pytest.mark.parametrize("degrees", [4, 5, 9, 30, 1000])
def test_the_quantile_is_that_of_student(degrees: int) -> None:
    assert _student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=4e-3)
