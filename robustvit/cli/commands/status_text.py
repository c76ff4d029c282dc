"""The status of a store in words: a line for a log, a block for a terminal, and plain data for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from robustvit.errors import few
from robustvit.records.status.store_status import RunStatus
from robustvit.records.status.written import by_host, elapsed, left_text, rate_text

_FAILURES = 5  # that are told with their reason
_HOSTS = 12
_TASKS = 4  # of a host


def no_run_line(status: RunStatus) -> str:
    """The line of a store in which no run has begun."""
    return f"No run has begun in the store {status.store}."


def status_line(status: RunStatus) -> str:
    """All in one line."""
    if not status.suite:
        return no_run_line(status)
    hosts = by_host(status.workers, status.now)
    workers = f"{_count(len(status.workers), 'worker')} on {_count(len(hosts), 'host')}" if hosts else ""
    failed = f"{len(status.failures):,} failed" if status.failures else ""
    return " · ".join(filter(None, (_title(status), _cells(status), _rows(status), *_going(status), failed, workers, status.state)))


def status_lines(status: RunStatus) -> Iterator[str]:
    """The status in lines, of which the first is the title."""
    if not status.suite:
        yield no_run_line(status)
    else:
        yield f"{_title(status)}: {status.state}"
        undefined = f", {status.undefined:,} without a value" if status.undefined else ""
        yield f"{_cells(status)}{undefined} · {_rows(status)}"
        yield " · ".join(_going(status))
        yield _last(status)
        yield from failure_lines(status)
    if status.workers or (status.suite and not status.over):
        yield from _workers(status)
    if status.damage:
        yield status.damage


def failure_lines(status: RunStatus) -> Iterator[str]:
    """The first cells that failed, each with its reason, and how many more there are."""
    for one in status.failures[:_FAILURES]:
        yield f"failed: {one.cell}: {one.reason}"
    if (more := len(status.failures) - _FAILURES) > 0:
        yield f"failed: {more:,} more"


def status_data(status: RunStatus) -> dict[str, Any]:
    """The status as plain data: times in seconds, rate in rows a second."""
    found = asdict(status) | {"store": str(status.store), "over": status.over, "failed": len(status.failures)}
    pace = found.pop("pace") or ()
    names = ("rows_per_second", "seconds_left", "seconds_left_low", "seconds_left_high")
    found |= dict(zip(names, (*pace, None, None, None, None), strict=False))
    return found | {name: [one._asdict() for one in getattr(status, name)] for name in ("failures", "workers")}


def _title(status: RunStatus) -> str:
    return f"{status.suite}, {few(list(status.models))}"


def _cells(status: RunStatus) -> str:
    return f"{status.complete:,} of {status.cells:,} cells"


def _rows(status: RunStatus) -> str:
    return f"{status.rows:,} of {status.asked:,} rows"


def _going(status: RunStatus) -> list[str]:
    """The rate and the time left of a run that is not over."""
    return [] if status.over else list(filter(None, (rate_text(status.pace), left_text(status.pace))))


def _last(status: RunStatus) -> str:
    if status.newest is None:
        return "no rows yet"
    return f"last new row {elapsed(max(0.0, status.now - status.newest))} ago"


def _workers(status: RunStatus) -> Iterator[str]:
    hosts = by_host(status.workers, status.now)
    if not hosts:
        yield "no worker is seen"
    for one in hosts[:_HOSTS]:
        more = f" and {len(one.what) - _TASKS} more" if len(one.what) > _TASKS else ""
        yield f"{one.host}: {_count(one.number, 'worker')} for {one.since}: {'; '.join(one.what[:_TASKS])}{more}"
    if len(hosts) > _HOSTS:
        yield f"{_count(len(hosts) - _HOSTS, 'more host')}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
