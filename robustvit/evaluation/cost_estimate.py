"""What a plan will take: seconds by timing a few rows here, bytes by what a row has been seen to take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from robustvit.errors import BadParameter
from robustvit.evaluation.plan import Plan, PlannedCells, plugins_of, transformed
from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import mask_model
from robustvit.primitives.patches import patch_places
from robustvit.primitives.scenario import scenario, stream
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations, Window
from robustvit.spec.cell import Cell
from robustvit.spec.spec import Spec
from robustvit.spec.view import View

_ROW_BYTES = 45  # a stored row of a corruption, measured on suites of 500 to 50,000 samples
_GALLERY_BYTES = 60_000  # the pictures kept of a cell at 224 px
_PROBED = 4  # rows a scenario is timed on
_GRADIENT = 3.4  # an attack's step in forward passes: forward, backward to the pixels, arithmetic


@dataclass(frozen=True)
class Estimate:
    """rows in all and to do; seconds for those to do (None where the model is not at hand); bytes added to the store and the cache.

    bound: some of these seconds are what they are at most, because an analysis may meet less of another data set than all of it, an attack in a chain
    meets only what stands, and a certificate for one patch size may be decided early.
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
        disk = f"About {_size(self.store_bytes)} of records and {_size(self.cache_bytes)} of decoded pictures."
        if self.rows_to_do == 0:
            return "Nothing will be computed."
        if self.seconds is None:
            return f"No estimate of time: a model's weights are not at hand. {disk}"
        return f"{'Up to' if self.bound else 'About'} {_duration(self.seconds)} on this machine. {disk}"


def estimate(plan: Plan, store: Store | None) -> Estimate:
    """Times each scenario on a few grey-noise rows (in the middle of its severities) and multiplies by the rows still to do."""
    done = plan.done(store)
    to_do = 0
    seconds: float | None = 0.0
    bound = False
    decoded: dict[tuple[str, View], int] = {}
    for ask in plan.planned:
        costs: dict[tuple[Any, ...], float] = {}
        for cell in ask.unique:
            rows = ask.samples.asked - (done.get(cell.id, 0) if cell.resolved else 0)
            to_do += rows
            bound = bound or (rows > 0 and (_met(plan, cell) > 1 or bool(cell.after) or bool(cell.scenario.get("stop_at"))))
            if rows and not ask.samples.traits.fleeting:
                decoded[ask.samples.data.fingerprint, cell.view] = ask.samples.asked * cell.view.size[0] * cell.view.size[1] * 3
            if ask.model is None:
                seconds = None
            elif rows and seconds is not None:
                looks = cell.scenario if registry.scenario(cell.scenario.name).kind == "certificate" else _nested(cell.scenario)
                key = (cell.scenario.name, looks, int(_passes(cell.scenario, ask.model)), cell.view)
                if key not in costs:
                    costs[key] = _cost(ask, cell, plan) * _met(plan, cell)
                seconds += rows * costs[key]
    kept = to_do * _ROW_BYTES + (len(plan.cells) * _GALLERY_BYTES if to_do else 0)
    return Estimate(plan.rows, to_do, seconds, kept, sum(decoded.values()) if to_do else 0, bound)


def _nested(spec: Spec) -> str:
    """The names of the plug-ins inside a scenario, which decide its cost as much as its own."""
    return " ".join(value.name for _, value in spec.params if isinstance(value, Spec))


def _met(plan: Plan, cell: Cell) -> int:
    """How many samples of nested data sets a row of an analysis may meet, each in a forward pass: at most those of the largest, 1 without one."""
    if registry.scenario(cell.scenario.name).kind != "analysis":
        return 1
    return max((len(one) for one in plugins_of(cell, plan).values() if isinstance(one, Data)), default=1)


def _cost(ask: PlannedCells, cell: Cell, plan: Plan) -> float:
    """Seconds a row; none where the cell will fail, as where a patch does not fit into the picture."""
    try:
        return _timed(ask, cell, plan)
    except BadParameter:
        return 0.0


def _timed(ask: PlannedCells, cell: Cell, plan: Plan) -> float:
    assert ask.model is not None
    model = transformed(ask.model, cell)
    forward = _seconds(lambda: model(_noise(model, model.tile))) / model.tile
    entry = registry.scenario(cell.scenario.name)
    if entry.kind == "attack":
        return forward * (2 + _passes(cell.scenario, model))
    if entry.kind == "certificate":
        return forward * _looks(cell.scenario, model)
    if entry.kind != "corruption":
        return forward
    does = scenario(entry, cell.scenario, plugins_of(cell, plan))
    batch = Batch(_noise(model, _PROBED), torch.zeros(_PROBED, dtype=torch.int64), tuple(str(i) for i in range(_PROBED)))
    return forward + _seconds(lambda: does(model, batch, Draws(0, stream(cell.scenario), batch.ids, model.device))) / _PROBED


def _passes(spec: Spec, model: Classifier) -> float:
    """What an attack asks of a sample that never falls, in forward passes."""
    inner = next((value for _, value in spec.params if isinstance(value, Spec) and value.kind == "attack"), spec)
    if registry.scenario(inner.name).kind != "attack":
        return 0.0

    def count(name: str) -> float:
        value = inner.get(name, 1)
        return float(value) if isinstance(value, int | float) else 1.0

    asked = (
        count("steps") * count("restarts") * count("eot") * count("searches") * count("copies") * min(count("targets"), model.outputs - 1)
    )
    asked *= _tried(inner, model)
    return asked * (1.0 if registry.scenario(inner.name).family == "black-box" else _GRADIENT)


def _looks(spec: Spec, model: Classifier) -> float:
    """What a certificate asks of a picture, in forward passes: at most, where counting may stop early."""
    ablations = Ablations.of_scenario(spec, model.size)
    if ablations is None:
        return float(sum(value for name in ("samples", "selection") if isinstance(value := spec.get(name), int))) or 1.0
    masked = mask_model(model, torch.zeros(1, 3, *model.size, device=model.device), spec.get("unseen"))  # type: ignore[arg-type]
    whole = Window(*(np.ones((1, side), dtype=bool) for side in model.size))
    shares = masked.token_counts(ablations.window(np.arange(ablations.count))) / np.maximum(masked.token_counts(whole), 1)
    return float(shares.sum()) or float(ablations.count)


def _tried(attack: Spec, model: Classifier) -> int:
    """In how many places an attack with a patch tries it, one after the other."""
    size, offset = attack.get("size"), attack.get("offset")
    if attack.get("position") not in ("worst", "every") or not isinstance(size, int) or not isinstance(offset, int):
        return 1
    return len(patch_places(*model.size, size, offset))


def _noise(model: Classifier, rows: int) -> torch.Tensor:
    return Draws(0, "estimate", [str(i) for i in range(rows)], model.device).uniform(3, *model.size)


def _seconds(work: Callable[[], object]) -> float:
    """The faster of two runs; the first may include the cost of starting up."""
    times = []
    for _ in range(2):
        began = time.perf_counter()
        with torch.no_grad():
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
