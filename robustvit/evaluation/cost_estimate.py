"""Estimates what a plan will take: seconds from a forward pass timed here, bytes from what rows took before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from robustvit.evaluation.pipelines.nested import nested_of
from robustvit.evaluation.plan import Plan, plugins_of
from robustvit.evaluation.tasks import CELL_FAULTS
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import GRADIENT, declared_passes
from robustvit.primitives.scenario import Scenario, scenario, stream
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

_ROW_BYTES = 45  # a stored row of a corruption, measured on suites of 500 to 50,000 samples
_PIXEL_BYTES = 15  # of an attack's image that is kept: float32, and the clean one in bytes
_GALLERY_BYTES = 60_000  # the gallery images of a cell at 224 px
_PROBED = 4  # rows a scenario is timed on


@dataclass(frozen=True)
class Estimate:
    """rows in all and to do; seconds for those to do (None where the model is not at hand); bytes added to the store and the cache.

    bound: these seconds are an upper bound, because a scenario may take fewer passes than it declares, or an attack in a chain is run only
    on samples that the ones before it did not make the model misclassify.
    """

    rows: int
    rows_to_do: int
    seconds: float | None
    store_bytes: int
    cache_bytes: int
    bound: bool = False

    @property
    def sentence(self) -> str:
        """For people."""
        disk = f"About {_size(self.store_bytes)} of records and {_size(self.cache_bytes)} of decoded images."
        if self.rows_to_do == 0:
            return "Nothing will be computed."
        if self.seconds is None:
            return f"No estimate of time: a model's weights are not at hand. {disk}"
        return f"{'Up to' if self.bound else 'About'} {_duration(self.seconds)} on this machine. {disk}"


def estimate(plan: Plan, done: Mapping[str, int]) -> Estimate:
    """Multiplies a measured forward pass by the passes that each scenario declares and by the rows still to do.

    done: the rows that are there, by cell id. Scenarios that declare no passes are timed on a few noise images.
    """
    to_do, seconds, bound, images = 0, 0.0, False, 0
    decoded: dict[tuple[str, View], int] = {}
    for part in plan.planned:
        timer = None if part.model is None else _Timer(plan, part.model)
        for cell in plan.defined(part):
            rows = part.samples.asked - (done.get(cell.id, 0) if cell.resolved else 0)
            to_do += rows
            if rows and not part.samples.traits.fleeting:
                decoded[part.samples.data.fingerprint, cell.view] = part.samples.asked * cell.view.size[0] * cell.view.size[1] * 3
            images += rows * cell.view.size[0] * cell.view.size[1] * _PIXEL_BYTES if "adversarial" in plan.kept_of(cell) else 0
            if rows and timer is not None:
                cost = timer.cost(cell)
                seconds += cost.once + rows * cost.row + timer.learning(cell)
                bound = bound or cost.at_most or bool(cell.after)
    kept = images + to_do * _ROW_BYTES + (len(plan.cells) * _GALLERY_BYTES if to_do else 0)
    known = all(part.model is not None for part in plan.planned)
    return Estimate(plan.rows, to_do, seconds if known else None, kept, sum(decoded.values()) if to_do else 0, bound)


class _Cost(NamedTuple):
    """Seconds for a row, and once for the cell; whether that is an upper bound."""

    row: float
    once: float = 0.0
    at_most: bool = False


class _Timer:
    """Times one model, each pipeline of transforms once, and scenarios that declare no passes once for each name."""

    def __init__(self, plan: Plan, model: Classifier) -> None:
        self.plan, self.model = plan, model
        self._hosts: dict[tuple[Any, ...], tuple[Classifier, float]] = {}
        self._timed: dict[tuple[Any, ...], float] = {}
        self._learns: set[str] = set()

    def cost(self, cell: Cell) -> _Cost:
        """The cost of a cell; none where it fails when it is counted or timed, as where a patch does not fit into the image."""
        host, forward = self._host(cell)
        if cell.surrogate is not None and not cell.crafts:
            return _Cost(2 * forward)  # clean, and on the crafted image
        forward *= 2 if cell.attack_through else 1  # each query asks both
        entry = registry.scenario_entry(cell.scenario.name)
        try:
            does = scenario(entry, cell.scenario, plugins_of(cell, self.plan))
            passes = does.passes(host)
            if passes is not None:
                return _Cost(forward * (passes.forwards + does.predicts), forward * GRADIENT * passes.fit, passes.at_most)
            nested = " ".join(value.name for _, value in cell.scenario.params if isinstance(value, Spec))
            key = (cell.scenario.name, nested, cell.transforms, cell.view)
            if key not in self._timed:
                self._timed[key] = _timed(does, host, cell)
        except CELL_FAULTS:
            return _Cost(0.0)
        return _Cost(self._timed[key] + forward * does.predicts)

    def learning(self, cell: Cell) -> float:
        """Seconds in which the transforms of a cell learn what is not at hand, each once for all cells."""
        seconds = 0.0
        for place, spec in enumerate(cell.transforms):
            name = cell.learned_id(place)
            if name is not None and name not in self.plan.artifacts and name not in self._learns:
                self._learns.add(name)
                entry = registry.lookup("transform", spec.name)
                passes = declared_passes(entry, spec, self.model, nested_of(spec, self.plan.plugins))
                seconds += self._host(replace(cell, transforms=()))[1] * GRADIENT * (passes.fit if passes else 0)
        return seconds

    def _host(self, cell: Cell) -> tuple[Classifier, float]:
        """The model of a cell, and the seconds of its forward pass for one row."""
        key = (cell.transforms, cell.view.shown)
        if key not in self._hosts:
            host = self.plan.host(self.model, cell if self.plan.fitted(cell) else replace(cell, transforms=()))
            self._hosts[key] = host, _seconds(lambda: _forward(host)) / host.tile
        return self._hosts[key]


def _timed(does: Scenario, model: Classifier, cell: Cell) -> float:
    """Seconds for a row of a scenario, on a few noise images with the model's own predictions for labels."""
    images = _noise(model, _PROBED)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    batch = Batch(images, labels, tuple(str(i) for i in range(_PROBED)))
    draws = Draws(0, stream(cell.scenario), batch.ids, model.device)
    return _seconds(lambda: does(model, batch, draws)) / _PROBED


def _forward(model: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return model(_noise(model, model.tile))  # type: ignore[no-any-return]


def _noise(model: Classifier, rows: int) -> torch.Tensor:
    return Draws(0, "estimate", [str(i) for i in range(rows)], model.device).uniform(3, *model.size)


def _seconds(work: Callable[[], object]) -> float:
    """The faster of two runs; the first may include the cost of starting up."""
    times = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    whole = max(1, round(seconds))
    return f"{whole} second{'' if whole == 1 else 's'}"


def _size(count: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
