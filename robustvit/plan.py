"""What a run would do, before it does it: the cells, how far each has got, and what the rest will take."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robustvit import registry
from robustvit.batch import Data
from robustvit.classifier import Card, Classifier
from robustvit.errors import BadParameter, ModelError, UsageError, WeightsUnavailable
from robustvit.loading import load_data, load_model
from robustvit.order import SHARD, order
from robustvit.records import rows
from robustvit.spec import Spec, canonical, digest, plain, show
from robustvit.store import Store
from robustvit.suite import Cell, Overrides, Suite
from robustvit.view import View


@dataclass(frozen=True)
class Settings:
    """What changes only where and how fast a run computes, and what it keeps besides: no part of a cell but `precision` and `view`.

    batch_size: rows per tile. workers: threads that decode images beside each other. limit: samples per cell, a count, or a share in (0, 1).
    keep: `logits`. view: overrides of the models' own view.
    """

    device: str = "cpu"
    batch_size: int | None = None
    workers: int = 0
    precision: str = "float32"
    limit: int | float | None = None
    seed: int | None = None
    keep: tuple[str, ...] = ()
    view: Overrides = field(default_factory=Overrides)
    data_dir: Path | None = None


@dataclass
class Ask:
    """A suite's questions to one model. `model` is None while its weights are not at hand (`missing` says why)."""

    label: str
    cells: list[Cell]
    model: Classifier | None
    missing: str = ""


@dataclass
class Plan:
    """A suite, its data in evaluation order, and the questions to every model. `asked` samples are wanted of each cell."""

    suite: Suite
    data: Data
    positions: np.ndarray
    asked: int
    asks: list[Ask]
    settings: Settings
    plugins: dict[Spec, Any] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of every model."""
        return [cell for ask in self.asks for cell in ask.cells]

    def done(self, store: Store | None) -> dict[str, int]:
        """Rows already here, by cell id; nothing for cells whose id is unresolved."""
        if store is None:
            return {}
        return {cell.id: min(self.asked, rows(store.pieces(cell.id))) for cell in self.cells if cell.resolved}


def make(
    suite: Suite, models: Sequence[str | Spec | Classifier], data: str | Data | None, settings: Settings, *, need_weights: bool = True
) -> Plan:
    """Loads the data and the models, and lists the cells.

    models: addresses, or Classifiers. data: an address or a Data; None takes the suite's own. need_weights=False lists models whose
    weights are not here as unresolved. Raises UsageError, DataError or ModelError before anything is computed.
    """
    if isinstance(models, str | Spec | Classifier):
        raise BadParameter(f"models takes a list; write models=[{models if isinstance(models, str | Spec) else models.card.label!r}].")
    if not models:
        raise BadParameter("no model was named; give one with --model, for instance --model demo.")
    for name in settings.keep:
        if name != "logits":
            raise BadParameter(f"--keep '{name}' is unknown; it takes logits.")
    if settings.workers < 0 or (settings.seed is not None and settings.seed < 0):
        raise BadParameter(f"--workers is {settings.workers} and --seed is {settings.seed}; both take whole numbers from 0.")
    pictures = open_data(suite, data, settings)
    bound = suite if settings.seed is None else suite.with_seed(settings.seed)
    plan = Plan(
        bound, pictures, order(pictures.ids), wanted(suite.limit if settings.limit is None else settings.limit, len(pictures)), [], settings
    )
    for address in models:
        plan.asks.append(_ask(plan, address, need_weights))
    labels = [ask.label for ask in plan.asks]
    for label in labels:
        if labels.count(label) > 1:
            raise BadParameter(f"the model '{label}' is named twice.")
    return plan


def open_data(suite: Suite, data: str | Data | None, settings: Settings) -> Data:
    """The data that the suite's questions are asked on. Raises UsageError where the suite's data is its question and another is named."""
    if data is not None and suite.fixed_data:
        raise UsageError(f"suite '{suite.name}' is about its own data ({suite.data}); leave --data out.")
    if data is None:
        return load_data(suite.data, data_dir=settings.data_dir)
    return load_data(data, data_dir=settings.data_dir) if isinstance(data, str) else data


def wanted(limit: int | float | None, size: int) -> int:
    """How many samples a limit (a count, or a share below 1) takes of `size`. Raises BadParameter for a limit that takes none."""
    if limit is None:
        return size
    if not limit > 0 or limit == float("inf") or (isinstance(limit, float) and limit > 1 and not limit.is_integer()):
        raise BadParameter(f"--limit is {limit:g}; it takes a number of samples (200) or a share of them (0.1).")
    return max(1, round(limit * size)) if isinstance(limit, float) and limit < 1 else min(int(limit), size)


def _ask(plan: Plan, address: str | Spec | Classifier, need_weights: bool) -> Ask:
    try:
        model = load(address, plan.settings) if isinstance(address, str | Spec) else address
    except WeightsUnavailable as error:
        if need_weights:
            raise
        blank = Cell(Spec(str(address)), None, Spec(plan.data.name), plan.data.fingerprint, plan.settings.view.apply(View()), Spec("clean"))
        return Ask(str(address), plan.suite.cells(blank), None, str(error))
    model.view = plan.settings.view.over(plan.suite.view).apply(model.view)
    for reading in plan.data.readings:
        reading.check(model.outputs, model.card.label, plan.data.name)
    card = model.card
    first = Cell(
        model=card.identity, weights=card.fingerprint, data=Spec(plan.data.name), data_fingerprint=plan.data.fingerprint, view=model.view,
        scenario=Spec("clean"), precision=model.precision,
    )  # fmt: skip
    return Ask(card.label, [_with_nested(cell, plan) for cell in plan.suite.cells(first)], model)


def load(address: str | Spec, settings: Settings) -> Classifier:
    """The model at an address under a run's settings."""
    return load_model(address, device=settings.device, tile=settings.batch_size, precision=settings.precision)


def _with_nested(cell: Cell, plan: Plan) -> Cell:
    """The cell with every nested model replaced by its identity and fingerprint; the loaded model is remembered under that name."""
    entry = registry.scenario(cell.scenario.name)
    changed = {}
    for param in entry.params:
        value = cell.scenario.get(param.name)
        if param.hint.plugin == "model" and isinstance(value, Spec):
            model = load_model(value, device=plan.settings.device, tile=plan.settings.batch_size)
            named = model.card.identity.with_params(fingerprint=model.card.fingerprint)
            plan.plugins[named] = model
            changed[param.name] = named
        elif param.hint.plugin and isinstance(value, Spec):
            plan.plugins[value] = _function(value)
    return replace(cell, scenario=cell.scenario.with_params(**changed)) if changed else cell


def _function(spec: Spec) -> Any:
    if spec.kind == "data":
        return load_data(spec)
    arguments = {key: plain(value) for key, value in spec.params}
    return functools.partial(registry.lookup(spec.kind, spec.name).load(), **arguments)


def plugins_of(cell: Cell, plan: Plan) -> dict[str, Any]:
    """What the plug-in parameters of a cell's scenario stand for."""
    return {key: plan.plugins[value] for key, value in cell.scenario.params if isinstance(value, Spec) and value in plan.plugins}


def transformed(model: Classifier, pipeline: Iterable[Spec]) -> Classifier:
    """The model with a cell's transforms applied in order; the argument is untouched."""
    for spec in pipeline:
        function = registry.lookup("transform", spec.name).load()
        model = function(model, **{key: plain(value) for key, value in spec.params})
        if not isinstance(model, Classifier):
            raise ModelError(f"transform '{spec.name}' must return a Classifier; it returned a {type(model).__name__}.")
    return model


def manifest(plan: Plan, command: str) -> dict[str, Any]:
    """What this run asks, as the Store keeps it. Its id depends on the questions alone: asking again overwrites, and adds nothing."""
    suite, data = plan.suite, plan.data
    cells = [_told(cell, ask.label, plan) for ask in plan.asks for cell in ask.cells]
    body = {
        "suite": {
            "name": suite.name, "title": suite.title, "version": suite.version, "paper": suite.paper, "url": suite.url, "rules": suite.rules,
            "licence": suite.licence, "citation": suite.citation, "data": canonical(suite.data),
            "metrics": [canonical(spec) for spec in suite.metrics], "scenarios": [canonical(spec) for spec in suite.scenarios],
        },
        "models": {ask.label: _card(ask.model.card) for ask in plan.asks if ask.model is not None},
        "data": _about_data(data),
        "limit": plan.settings.limit, "asked": plan.asked, "cells": cells,
    }  # fmt: skip
    return {"id": digest(body), **body, "command": command}


def _told(cell: Cell, label: str, plan: Plan) -> dict[str, Any]:
    entry = registry.scenario(cell.scenario.name)
    rest = {key: show(value) for key, value in cell.scenario.params if key != entry.severity}
    return {
        "cell": cell.id, "weights": cell.weights, "model": label, "data": plan.data.name, "scenario": cell.scenario.name,
        "severity": show(cell.severity) if cell.severity is not None else "", "params": ", ".join(f"{key}={value}" for key, value in rest.items()),
        "transforms": " → ".join(str(spec) for spec in cell.transforms), "seed": cell.seed, "precision": cell.precision,
        "view": _shown_view(cell), "asked": plan.asked, "kind": entry.kind, "family": entry.family,
        "source": "on-the-fly" if entry.kind == "corruption" and entry.severity else plan.data.source,
    }  # fmt: skip


def _shown_view(cell: Cell) -> str:
    view = cell.view
    resize = f", resize {view.resize}" if view.resize is not None and view.crop == "center" else ""
    return f"{view.size[0]}x{view.size[1]}{resize}, {view.crop}, {view.interpolation}"


def _card(card: Card) -> dict[str, Any]:
    return {
        "weights_kind": card.weights, "fingerprint": card.fingerprint, "identity": str(card.identity), "tag": card.tag, "source": card.source,
        "url": card.url, "licence": card.licence, "citation": card.citation, "parameters": card.parameters, "notes": card.notes,
    }  # fmt: skip


def _about_data(data: Data) -> dict[str, Any]:
    known = registry.entries("data").get(data.name.partition(":")[0])
    about = {"label": data.name, "name": data.name, "fingerprint": data.fingerprint, "classes": len(data.classes), "n": len(data)}
    about["class_names"] = list(data.classes) if len(data.classes) <= 1000 else []
    if known is not None:
        about |= {"source": known.source, "url": known.url, "licence": known.licence, "citation": known.citation, "rules": known.rules}
    return about


def shards(asked: int) -> list[tuple[int, int]]:
    """(shard, rows wanted of it) for the first `asked` samples in evaluation order."""
    return [(shard, min(SHARD, asked - shard * SHARD)) for shard in range(-(-asked // SHARD))]
