"""Rates, times left and workers in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from robustvit.records.status.pace import Pace
from robustvit.records.status.worker_files import RunningWorker
from robustvit.spec.grouping import grouped


class HostLine(NamedTuple):
    """The workers of one host. number: how many; what: each thing that they compute once; since: how long ago the first began."""

    host: str
    number: int
    what: tuple[str, ...]
    since: str


def elapsed(seconds: float) -> str:
    """A length of time as one reads it: `40 s`, `5 min`, `2 h 5 min`, `3 d`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h" + (f" {minutes} min" if (minutes := whole % 3600 // 60) else "")
    return f"{whole // 86400} d"


def rate_text(pace: Pace | None) -> str:
    """`103 rows/s`; "" where it is not known."""
    if pace is None:
        return ""
    digits = 0 if pace.rate >= 100 else 1 if pace.rate >= 1 else 3
    return f"{pace.rate:,.{digits}f} rows/s"


def left_text(pace: Pace | None) -> str:
    """`12 min left (9 min to 15 min)`, or `time left unknown`."""
    if pace is None or pace.left is None or pace.low is None or pace.high is None:
        return "time left unknown"
    low, high = elapsed(pace.low), elapsed(pace.high)
    return f"{elapsed(pace.left)} left" + (f" ({low} to {high})" if low != high else "")


def by_host(workers: Iterable[RunningWorker], now: float) -> list[HostLine]:
    """The workers by host, in the order of the hosts."""
    found = grouped((one.host, one) for one in workers)
    return [
        HostLine(
            host,
            len(own),
            tuple(dict.fromkeys(f"{one.computes} ({one.device})" for one in own)),
            elapsed(max(0.0, now - min(one.since for one in own))),
        )
        for host, own in sorted(found.items())
    ]
