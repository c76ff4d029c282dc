"""One number with its interval, in one call."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Literal

from torch import nn

from robustvit.errors import BadParameter, RobustvitError
from robustvit.evaluation.failed_cells import log as failures_log
from robustvit.evaluation.outcome.progress import Progress
from robustvit.evaluation.run import run
from robustvit.evaluation.settings import Settings
from robustvit.evaluation.tasks import FAILURE_MESSAGE
from robustvit.primitives.batch import Data
from robustvit.results.leaderboard import leaderboard
from robustvit.results.summary import with_interval
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.spec import Spec, parse
from robustvit.spec.suite import Part, Suite
from robustvit.spec.suite_file import bind_data
from robustvit.spec.written.call import called

_METRICS = {"corruption": "top1", "attack": "robust_accuracy"}


@dataclass(frozen=True)
class Score:
    """A number and its 95 % interval, in `unit`. n: its denominator; gradients: the verdict on an attack's, see `leaderboard`."""

    value: float
    low: float
    high: float
    n: int
    unit: str
    metric: str
    model: str
    data: str
    scenario: str
    reason: str = ""
    gradients: str = ""

    def __str__(self) -> str:
        name = f"{self.metric} of {self.model} on {self.data}, {self.scenario}"
        if math.isnan(self.value):
            return f"{name}: undefined, {self.reason or f'n = {self.n}'}"
        number = " ".join(filter(None, (with_interval(self.value, self.low, self.high), self.unit)))
        details = "; ".join(filter(None, (f"n = {self.n}", self.reason, f"gradients {self.gradients}" if self.gradients else "")))
        return f"{name}: {number}, {details}"

    def _repr_html_(self) -> str:
        name, _, number = str(self).partition(": ")
        return f"<p>{escape(name)}: <b>{escape(number)}</b></p>"


def score(
    model: str | Spec | nn.Module, data: str | Data, scenario: str = "clean", *, metric: str | None = None,
    limit: int | float | None = None, seed: int = 0, store: Path | str | None = None, settings: Settings | None = None,
    progress: Progress | Literal[False] | None = None, **params: Any,
) -> Score:  # fmt: skip
    """One metric of one model under one scenario: `rv.score(model, "digits", "pgd", eps="4/255", limit=200)`.

    model: an address, a Classifier or another module, as `run` takes it. data: an address or a Data. scenario: the name of a corruption, an
    attack, a certificate or an analysis, and params its parameters, as in a suite file. metric: NAME or NAME(key=value); default `top1`,
    of an attack `robust_accuracy`. store: the folder that keeps the rows, so that a second call computes nothing; default none, and they
    are lost. settings: see `run`. Raises what `run` raises, BadParameter where a list stands for several scenarios or a metric has to be
    named, and RobustvitError with the reason where the scenario failed.
    """
    written = called(scenario, "a scenario")
    entry = registry.scenario_entry(written.name)
    specs = parse({written.name: {**dict(written.params), **params}})
    if len(specs) != 1:
        raise BadParameter(f"score is of one scenario; the lists among {', '.join(params)} stand for {len(specs)}.")
    if metric is None and entry.kind not in _METRICS:
        raise BadParameter(f"'{written.name}' is a {entry.kind}, which has several metrics; name one: metric=…")
    chosen = called(metric or _METRICS[entry.kind], "metric")
    bound = bind(registry.lookup("metric", chosen.name), chosen)
    suite = Suite("score", "One number", 1, (Part(tuple(bind_data("digits")), (bind(entry, specs[0]),)),), (bound,), seeds=(seed,))
    given = settings or Settings()
    given = given if limit is None else replace(given, limit=limit)
    with tempfile.TemporaryDirectory(prefix="robustvit-") as lost, _failures_unlogged():
        place = Path(lost) / "score" if store is None else Path(store)
        done = run(suite, [model], data, store=place, settings=given, progress=progress)
        if done.failed:
            raise RobustvitError(f"'{written.name}' failed: {next(iter(done.failed.values()))}")
        rows = leaderboard(place, suite=suite.name, metrics=[bound])
    own = rows[rows["cell"].isin(done.ids) & (rows["metric"] != "")]
    if not len(own):
        reasons = "; ".join(filter(None, rows["reason"].unique()))
        raise BadParameter(f"'{written.name}' has no '{bound.name}': {reasons or 'it reads other columns'}")
    row = own.iloc[-1]
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    unit, label, model_label, data_label, reason, gradients = (
        str(row[name]) for name in ("unit", "metric", "model", "data", "reason", "gradients")
    )
    return Score(value, low, high, int(row["n"]), unit, label, model_label, data_label, str(specs[0]), reason, gradients)


@contextlib.contextmanager
def _failures_unlogged() -> Iterator[None]:
    """Context in which a cell that raises is not logged, because whoever asked for its score is told by an error."""

    def other(record: logging.LogRecord) -> bool:
        return record.msg != FAILURE_MESSAGE

    failures_log.addFilter(other)
    try:
        yield
    finally:
        failures_log.removeFilter(other)
