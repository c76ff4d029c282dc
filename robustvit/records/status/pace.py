"""How fast rows come, by the times of their files, and how long those that are missing take at that rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from robustvit.records.compacted.cell_files import compacted_of, named_files
from robustvit.records.listing import Listing
from robustvit.records.run_progress import RunProgress

WINDOW = 600.0  # seconds of which files count
FEWEST = 5  # files that count, however old they are, and that a time left needs
STOPPED = 120.0  # seconds beyond the longest between two files, after which a run that nobody is seen to compute has stopped
_Z = 1.959964  # the 97.5 % quantile of the normal distribution


class Pace(NamedTuple):
    """rate: rows a second. left: seconds until the run is over, with the ends of its 95 % interval; None where that is not known."""

    rate: float
    left: float | None = None
    low: float | None = None
    high: float | None = None


class _Arrival(NamedTuple):
    """A file of rows: when it came, in seconds since 1970, and how many rows it has."""

    time: float
    rows: int


def pace(run: RunProgress, listing: Listing, now: float, since: float | None = None) -> Pace | None:
    """How fast a run goes; None where nothing tells, or where it has stopped.

    now: seconds since 1970 by the store's clock. since: when the processes that compute began, None where none is seen: files from before
    do not count.

    The rate is that of the files of the last ten minutes, or of the last five: their rows over the time from the file before them to the
    last one, or, where the next is overdue, to the moment that would be its turn. The rows that are missing, but those of cells that
    failed, are taken to come in files like these: the time for each has the mean m and the standard deviation s of the k that count, per
    their rows, and n more are left, so that their sum has the variance n s² + n² s² / k. The interval takes Student's t with k − 1 degrees
    of freedom. Cells that take longer for a row than those before are not foreseen.
    """
    came = sorted(one for one in _arrivals(run, listing) if (since or 0.0) < one.time <= now)
    begun = [] if since is None or since > now else [_Arrival(since, 0)]
    counted = _recent([*begun, *came], now)
    steps = [(later.time - earlier.time, later.rows) for earlier, later in itertools.pairwise(counted)]
    if not steps or counted[-1].time <= counted[0].time:
        return None
    longest, silence = max(seconds for seconds, _ in steps), now - counted[-1].time
    if since is None and silence > longest + STOPPED:
        return None
    rows, seconds = sum(rows for _, rows in steps), counted[-1].time - counted[0].time
    rate = rows / (seconds + max(0.0, silence - longest))
    missing = sum(one.cell.asked - one.rows for one in run.defined if one.state not in ("complete", "failed"))
    if not missing:
        return Pace(rate, 0.0, 0.0, 0.0)
    if len(steps) < FEWEST:
        return Pace(rate)
    left, width = missing / rate, _half_width(steps, missing)
    return Pace(rate, left, max(0.0, left - width), left + width)


def _arrivals(run: RunProgress, listing: Listing) -> Iterator[_Arrival]:
    """The files of rows of a run; compacted ones came when they were compacted, which says nothing."""
    for one in run.defined:
        for file in listing.cells.get(one.cell.cell, ()):
            for rows in named_files([file.name], one.cell.cell):
                if compacted_of(rows) is None:
                    yield _Arrival(file.changed / 1e9, rows.stop - rows.start)


def _recent(came: list[_Arrival], now: float) -> list[_Arrival]:
    """The last files, in order; the first of them begins the time of the second."""
    within = sum(one.time > now - WINDOW for one in came)
    return came[-max(within, FEWEST + 1) :]


def _half_width(steps: list[tuple[float, int]], missing: int) -> float:
    """Half of the 95 % interval of the time for so many rows."""
    count, rows = len(steps), sum(rows for _, rows in steps)
    each = sum(seconds for seconds, _ in steps) / rows
    variance = sum((seconds - rows * each) ** 2 for seconds, rows in steps) / (count - 1)
    more = missing / (rows / count)
    return _student(count - 1) * math.sqrt(variance * (more + more**2 / count))


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t: Abramowitz & Stegun 26.7.5, off by 0.4 % at 4 degrees of freedom, which pace has at least."""
    z, n = _Z, float(degrees)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n ** (place + 1) for place, term in enumerate(terms))
