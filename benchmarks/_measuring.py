"""Timing in turns on any device, the arithmetic of its figures, and parts that run one by one within a budget of time."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
"""One line of a part's table: a value for each heading, None where there is none, and why under `note`."""
Part = Callable[[], Iterator[Row]]
Clock = Callable[[], float]


class Timer:
    """Seconds of some works on a device, whose queue is empty at both ends of a reading."""

    def __init__(self, device: torch.device | str, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = torch.device(device), clock

    def seconds(self, work: Callable[[], object]) -> float:
        """Seconds of one call."""
        self._finish()
        began = self.clock()
        work()
        self._finish()
        return self.clock() - began

    def in_turn(self, works: Mapping[str, Callable[[], object]], repeats: int, *, warm: bool = True) -> dict[str, list[float]]:
        """Seconds of every work in each of the turns: each turn begins with the next work. warm: call each of them once before."""
        if warm:
            for work in works.values():
                work()
        names, found = list(works), {name: [0.0] * repeats for name in works}
        for turn in range(repeats):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                found[name][turn] = self.seconds(works[name])
        return found

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n values. Raises ValueError for none of them, or for one that is not positive."""
    if not values or min(values) <= 0:
        raise ValueError(f"a geometric mean is of one positive number or more; these are {list(values)}.")
    return math.exp(sum(map(math.log, values)) / len(values))


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of one / other, turn by turn."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def rate(count: int, seconds: Sequence[float]) -> float:
    """Images per second of the median turn."""
    return count / statistics.median(seconds)


class Run:
    """Runs parts one after the other, prints their tables as rows come, and keeps what it printed.

    minutes: after which no further row is asked for and no part begun. file: where the figures are written as JSON after each part, with
    the machine's facts.
    """

    def __init__(self, machine: Mapping[str, Any], minutes: float, file: Path | None = None, clock: Clock = time.perf_counter) -> None:
        self.machine, self.limit, self.file, self.clock = machine, minutes * 60, file, clock
        self.began, self.parts, self.failed = clock(), dict[str, dict[str, Any]](), list[str]()

    def do(self, name: str, part: Part) -> None:
        """Runs a part. One that raises is told in a line; nothing of it is raised."""
        began, rows = self.clock(), list[Row]()
        kept = self.parts[name] = {"rows": rows}
        print(f"## {name}\n", flush=True)
        if self._spent():
            kept["skipped"] = f"the {self.limit / 60:g} minutes are spent"
        else:
            try:
                for row in part():
                    rows.append(row)
                    _show(row, len(rows) == 1)
                    if self._spent():
                        kept["cut"] = f"after {len(rows)} rows the {self.limit / 60:g} minutes are spent"
                        break
            except Exception as error:  # noqa: BLE001 - the other parts go on, and the exit code tells
                kept["failed"] = " ".join(f"{type(error).__name__}: {error}".split())
                self.failed.append(name)
        for what in ("skipped", "cut", "failed"):
            if what in kept:
                print(f"{what}: {kept[what]}", flush=True)
        kept["seconds"] = round(self.clock() - began, 2)
        print(flush=True)
        self._write()

    def _spent(self) -> bool:
        return self.clock() - self.began > self.limit

    def _write(self) -> None:
        if self.file is not None:
            self.file.write_text(json.dumps({"machine": self.machine, "parts": self.parts}, indent=1) + "\n", encoding="utf-8")


def _show(row: Row, first: bool) -> None:
    """Prints a line of a Markdown table, the first with its head."""
    if first:
        print(f"| {' | '.join(row)} |\n|{'|'.join('---' if isinstance(value, str) else '--:' for value in row.values())}|")
    print(f"| {' | '.join(map(_cell, row.values()))} |", flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)
