"""What the tasks of a run took, from which the speed of this machine is learned, and what they will take in relation to each other."""

from __future__ import annotations

from collections.abc import Iterable

from robustvit.evaluation.cost import rates
from robustvit.evaluation.plan import Plan, plugins_of
from robustvit.evaluation.tasks import CELL_FAULTS, Task, planned_of
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.scenario import scenario
from robustvit.spec import registry
from robustvit.spec.cell import Cell

_LEAST = 64  # images from which a speed is learned
_BESIDE = 0.5  # forward passes that reading an image and writing its row count as


class Work:
    """The passes that tasks take: for the time that is left, and for what a run teaches of this machine."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._passes: dict[Cell, float] = {}
        self._spent: dict[Cell, tuple[Classifier, int, float]] = {}

    def of(self, tasks: Iterable[Task]) -> float:
        """Forward passes of tasks, weighted by the parameters of their models, which stand for MACs."""
        return sum((task.stop - task.begin) * self._weight(task) for task in tasks)

    def spent(self, task: Task, host: Classifier, rows: int, seconds: float) -> None:
        """Notes what rows of a task took."""
        _, earlier, before = self._spent.get(task.cell, (host, 0, 0.0))
        self._spent[task.cell] = host, earlier + rows, before + seconds

    def teach(self) -> None:
        """Keeps what was learned of the speed of this machine: of models by their clean cells, then what corruptions take beside them."""
        speeds = rates.of_this_machine()
        long = [(cell, *one) for cell, one in self._spent.items() if one[1] >= _LEAST and self._macs(cell)]
        clean = [one for one in long if one[0].scenario.name == "clean"]
        for cell, host, images, seconds in clean:
            speeds.learn(host, self._macs(cell), 1.0, images, seconds)
        corrupted = [one for one in long if registry.scenario_entry(one[0].scenario.name).kind == "corruption" and one not in clean]
        for cell, host, images, seconds in corrupted:
            passes = images * self._macs(cell) / speeds.rate(host, self._macs(cell)).macs
            speeds.learn_beside(cell.scenario.name, cell.view.size, images, seconds - passes)
        if clean or corrupted:
            rates.keep(speeds)

    def _macs(self, cell: Cell) -> int:
        """The MACs of a cell's model as they were counted for the manifest; 0 where they could not be."""
        found = [costs.macs for (label, steps), costs in self.plan.costs.items() if steps == cell.transforms and label == self._label(cell)]
        return (found[0] if found else 0) or 0

    def _label(self, cell: Cell) -> str:
        return next((part.label for part in self.plan.planned if cell in part.cells), "")

    def _weight(self, task: Task) -> float:
        if task.cell not in self._passes:
            self._passes[task.cell] = self._count(task)
        return self._passes[task.cell]

    def _count(self, task: Task) -> float:
        part = planned_of(self.plan, task)
        model = part.model
        if model is None:
            return 1.0
        size = float(sum(one.numel() for one in model.model.parameters()) or 1)
        entry = registry.scenario_entry(task.cell.scenario.name)
        try:
            does = scenario(entry, task.cell.scenario, plugins_of(task.cell, self.plan))
            passes = does.passes(model)
        except CELL_FAULTS:
            return size
        judged = task.cell.surrogate is not None and not task.cell.crafts
        forwards = (0.0 if entry.kind == "corruption" else 1.0) if passes is None or judged else passes.forwards
        return size * (forwards + does.predicts + _BESIDE)
