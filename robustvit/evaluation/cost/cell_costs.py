"""The seconds that a cell takes: of its passes through the model, counted or timed, and of what is beside them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.cost.rates import Rate, Speeds
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

_PROBED = 4  # rows a scenario is timed on
_CORRUPTIONS = "corruptions that were not made here yet"
_PARAMETER_USES = 200  # MACs for each parameter of a model whose MACs cannot be counted: a ViT's, one for each of its tokens


class CellCost(NamedTuple):
    """Seconds for a row, and once for the cell; whether that is an upper bound."""

    row: float
    once: float = 0.0
    at_most: bool = False


class CellCosts(ABC):
    """The costs of the cells of one model, each pipeline of transforms looked at once."""

    def __init__(self, plan: Plan, model: Classifier) -> None:
        self.plan, self.model = plan, model
        self._hosts: dict[tuple[Any, ...], tuple[Classifier, float]] = {}
        self._learns: set[str] = set()

    @abstractmethod
    def forward(self, host: Classifier) -> float:
        """Seconds of a forward pass for one row."""

    @abstractmethod
    def beside(self, cell: Cell) -> float:
        """Seconds for a row beside the passes through the model."""

    @abstractmethod
    def undeclared(self, does: Scenario, host: Classifier, cell: Cell, forward: float) -> float:
        """Seconds for a row of a scenario that declares no passes."""

    def cost(self, cell: Cell) -> CellCost:
        """The cost of a cell; none where it fails when it is counted or timed, as where a patch does not fit into the image."""
        host, forward = self._host(cell)
        if cell.surrogate is not None and not cell.crafts:
            return CellCost(2 * forward)  # clean, and on the crafted image
        forward *= 2 if cell.attack_through else 1  # each query asks both
        entry = registry.scenario_entry(cell.scenario.name)
        try:
            does = scenario(entry, cell.scenario, plugins_of(cell, self.plan))
            passes = does.passes(host)
            if passes is not None:
                row = forward * (passes.forwards + does.predicts) + self.beside(cell)
                return CellCost(row, forward * GRADIENT * passes.fit, passes.at_most)
            return CellCost(self.undeclared(does, host, cell, forward) + forward * does.predicts)
        except CELL_FAULTS:
            return CellCost(0.0)

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
            self._hosts[key] = host, self.forward(host)
        return self._hosts[key]


class TimedCosts(CellCosts):
    """Times forward passes, and scenarios that declare no passes once for each name."""

    def __init__(self, plan: Plan, model: Classifier) -> None:
        super().__init__(plan, model)
        self._known: dict[tuple[Any, ...], float] = {}

    def forward(self, host: Classifier) -> float:
        """The faster of two passes of noise."""
        return _seconds(lambda: _forward(host)) / host.tile

    def beside(self, cell: Cell) -> float:
        """Nothing: what is declared is passes."""
        return 0.0

    def undeclared(self, does: Scenario, host: Classifier, cell: Cell, forward: float) -> float:
        """What a few noise images take, once for each name."""
        nested = " ".join(value.name for _, value in cell.scenario.params if isinstance(value, Spec))
        key = (cell.scenario.name, nested, cell.transforms, cell.view)
        if key not in self._known:
            self._known[key] = _timed(does, host, cell)
        return self._known[key]


class CountedCosts(CellCosts):
    """Counts MACs, and divides them by the speed of this machine. rates: those it used; unknown: scenarios that declare no passes."""

    def __init__(self, plan: Plan, model: Classifier, speeds: Speeds) -> None:
        super().__init__(plan, model)
        self.speeds, self.rates, self.unknown = speeds, list[Rate](), list[str]()

    def forward(self, host: Classifier) -> float:
        """MACs over the speed of this machine for such a model."""
        macs = count(host.model, host.size, host.channels).macs or _PARAMETER_USES * sum(one.numel() for one in host.model.parameters())
        self.rates.append(self.speeds.rate(host, macs))
        return macs / self.rates[-1].macs

    def beside(self, cell: Cell) -> float:
        """What earlier runs took here; nothing where there were none."""
        return self.speeds.beside(cell.scenario.name, cell.view.size) or 0.0

    def undeclared(self, does: Scenario, host: Classifier, cell: Cell, forward: float) -> float:
        """A corruption has no passes of its own; others count as one, and are noted."""
        if does.predicts and not does.makes_adversarial_images:
            if cell.scenario.name != "clean" and self.speeds.beside(cell.scenario.name, cell.view.size) is None:
                self.unknown.append(_CORRUPTIONS)
            return self.beside(cell)
        self.unknown.append(cell.scenario.name)
        return forward + self.beside(cell)


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
