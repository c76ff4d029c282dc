"""What a run would do, before it does it: the cells, how far each has got, and what the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robustvit import registry
from robustvit.batch import Data, Traits, traits
from robustvit.classifier import Card, Classifier, Enlarging
from robustvit.cost import Cost, count
from robustvit.errors import BadParameter, DataUnreadable, ModelError, UsageError, WeightsUnavailable, few
from robustvit.loading import load_data, load_model, resolve
from robustvit.order import SHARD, Frames, order, starts
from robustvit.records import rows
from robustvit.spec import Spec, Value, canonical, digest, plain, show
from robustvit.store import Store
from robustvit.suite import Cell, Overrides, Suite
from robustvit.view import View

_FEW = 20  # classes whose names are told of every variant of a data set; of more, those of the base suffice


@dataclass(frozen=True)
class Settings:
    """What changes only where and how fast a run computes, and what it keeps besides: no part of a cell but `precision` and `view`.

    batch_size: rows per tile. workers: threads that decode images beside each other. limit: samples per cell, a count, or a share in (0, 1).
    keep: `logits`. view: overrides of the models' own view. storage: as a suite's, over it. data_dir: where the data's files are; for a
    suite on several data sets, the folder that holds theirs by name.
    """

    device: str = "cpu"
    batch_size: int | None = None
    workers: int = 0
    precision: str = "float32"
    limit: int | float | None = None
    seed: int | None = None
    keep: tuple[str, ...] = ()
    view: Overrides = field(default_factory=Overrides)
    storage: Spec | None = None
    data_dir: Path | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """A data set in evaluation order, and what is asked on it. positions: of its samples, (N,); asked: how many rows are wanted, from the first on."""

    data: Data
    positions: np.ndarray
    asked: int
    scenarios: tuple[Spec, ...]

    @classmethod
    def of(cls, data: Data, limit: int | float | None, scenarios: Sequence[Spec] = ()) -> Samples:
        """The first `limit` samples, a count or a share below 1; of clips, all their frames. Raises BadParameter as `wanted` does."""
        positions = order(data.ids)
        bounds = starts(data.ids, positions)
        return cls(data, positions, int(bounds[wanted(limit, len(bounds) - 1)]), tuple(scenarios))

    @property
    def traits(self) -> Traits:
        """The data's."""
        return traits(self.data)

    @property
    def lacking(self) -> str:
        """`7,412 of its 7,500 pictures` where the whole set is known to have more than are here, else ""."""
        whole = self.traits.expected
        if whole is None or isinstance(self.data.ids, Frames) or len(self.data) >= whole:
            return ""
        return f"{len(self.data):,} of its {whole:,} pictures"

    @property
    def spec(self) -> Spec:
        """The data's part of a Cell: its name, and what tells it from its siblings."""
        told = {key: value for key, value in (("scenario", self.traits.scenario), ("severity", self.traits.severity)) if value}
        return Spec(self.data.name).with_params(**told, **dict(self.traits.params))


@dataclass
class Ask:
    """A suite's questions to one model on one data set. `model` is None while its weights are not at hand (`missing` says why)."""

    label: str
    samples: Samples
    cells: list[Cell]
    model: Classifier | None
    missing: str = ""


@dataclass
class Plan:
    """A suite, its data, and the questions to every model on every data set."""

    suite: Suite
    samples: list[Samples]
    asks: list[Ask]
    settings: Settings
    plugins: dict[Spec, Any] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of every model."""
        return [cell for ask in self.asks for cell in ask.cells]

    def done(self, store: Store | None) -> dict[str, int]:
        """Rows already here, by cell id; nothing for cells whose id is unresolved."""
        if store is None:
            return {}
        return {cell.id: min(ask.samples.asked, rows(store.pieces(cell.id))) for ask in self.asks for cell in ask.cells if cell.resolved}

    @property
    def incomplete(self) -> list[str]:
        """A sentence for each data set that lacks pictures: `imagenet-a holds 7,412 of its 7,500 pictures`."""
        many: dict[str, list[Samples]] = {}
        for samples in self.samples:
            if samples.lacking:
                many.setdefault(samples.data.name, []).append(samples)
        return [_incomplete(name, parts) for name, parts in many.items()]

    @property
    def rows(self) -> int:
        """Rows wanted in all."""
        return sum(ask.samples.asked * len(ask.cells) for ask in self.asks)


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
    limit = suite.limit if settings.limit is None else settings.limit
    plan = Plan(_asked(suite, settings), [Samples.of(one, limit, asked) for one, asked in open_data(suite, data, settings)], [], settings)
    _refuse_contradictions(plan.samples)
    for address in models:
        plan.asks += _asks(plan, address, need_weights)
    labels = [ask.label for ask in plan.asks if ask.samples is plan.samples[0]]
    for label in labels:
        if labels.count(label) > 1:
            raise BadParameter(f"the model '{label}' is named twice.")
    return plan


def _incomplete(name: str, parts: Sequence[Samples]) -> str:
    first = parts[0]
    told = f"{name} {first.traits.scenario} {first.traits.severity}".strip() if len(parts) > 1 else name
    more = f", and {len(parts) - 1} more parts of {name} lack some" if len(parts) > 1 else ""
    return f"{told} holds {first.lacking}{more}"


def _refuse_contradictions(many: Sequence[Samples]) -> None:
    """Raises DataUnreadable where variants of one data set give the same sample different labels."""
    known: dict[str, tuple[str, dict[str, str]]] = {}
    for data, own in ((samples.data, samples.traits) for samples in many):
        if isinstance(data.ids, Frames):
            continue
        shown = f"{data.name} {own.scenario} {own.severity}".strip()
        labels = {name: data.classes[label] for name, label in zip(data.ids, data.labels.tolist(), strict=True)}
        first, before = known.setdefault(own.base or data.name, (shown, labels))
        other = [name for name, label in labels.items() if before.get(name, label) != label]
        if other:
            raise DataUnreadable(f"'{first}' and '{shown}' give {len(other)} of the same samples different labels: {few(other)}.")


def _asked(suite: Suite, settings: Settings) -> Suite:
    """The suite as the settings bend it."""
    bent = suite if settings.seed is None else suite.with_seed(settings.seed)
    if settings.storage is None:
        return bent
    entries = [registry.scenario(spec.name) for spec in suite.scenarios]
    if not any(entry.kind == "corruption" and entry.severity for entry in entries):
        raise UsageError(f"suite '{suite.name}' makes no corruptions that --storage could store; leave it out.")
    return replace(bent, storage=settings.storage)


def open_data(suite: Suite, data: str | Data | None, settings: Settings) -> list[tuple[Data, tuple[Spec, ...]]]:
    """The data sets that the suite's questions are asked on, and which these are; `data` takes the place of the suite's own, or of what is nested in it.

    Raises UsageError where the suite's data is its question and another is named.
    """
    if data is not None and suite.fixed_data:
        names = ", ".join(dict.fromkeys(spec.name for spec in suite.data))
        raise UsageError(f"suite '{suite.name}' is about its own data ({names}); leave --data out.")
    given = load_data(data, data_dir=settings.data_dir) if isinstance(data, str) else data
    if given is None:
        return [(load_data(spec, data_dir=_place(suite, spec, settings)), suite.asked_on(spec)) for spec in suite.data]
    if not any(_nests(spec) for spec in suite.data):
        return [(given, suite.scenarios)]
    return [(load_data(spec, inner=given) if _nests(spec) else given, suite.asked_on(spec)) for spec in suite.data]


def _nests(spec: Spec) -> bool:
    return any(param.hint.plugin == "data" for param in registry.lookup("data", spec.name).params)


def _place(suite: Suite, spec: Spec, settings: Settings) -> Path | None:
    """Where a data set's files are: --data-dir, or the folder of its name in it where the suite names several data sets."""
    nested = (value for scenario in suite.scenarios for _, value in scenario.params if isinstance(value, Spec) and value.kind == "data")
    several = len({one.name for one in (*suite.data, *nested)}) > 1
    return settings.data_dir / spec.name if several and settings.data_dir is not None else settings.data_dir


def wanted(limit: int | float | None, size: int) -> int:
    """How many samples a limit (a count, or a share below 1) takes of `size`. Raises BadParameter for a limit that takes none."""
    if limit is None:
        return size
    if not limit > 0 or limit == float("inf") or (isinstance(limit, float) and limit > 1 and not limit.is_integer()):
        raise BadParameter(f"--limit is {limit:g}; it takes a number of samples (200) or a share of them (0.1).")
    return max(1, round(limit * size)) if isinstance(limit, float) and limit < 1 else min(int(limit), size)


def _asks(plan: Plan, address: str | Spec | Classifier, need_weights: bool) -> list[Ask]:
    """The questions to one model, on every data set."""
    try:
        model = load(address, plan.settings) if isinstance(address, str | Spec) else address
    except WeightsUnavailable as error:
        if need_weights:
            raise
        blank = Cell(Spec(str(address)), None, Spec(""), None, plan.settings.view.apply(View()), Spec("clean"))
        return [Ask(str(address), samples, _cells(plan, blank, samples), None, str(error)) for samples in plan.samples]
    model.view = plan.settings.view.over(plan.suite.view).apply(model.view)
    for samples in plan.samples:
        for reading in samples.data.readings:
            reading.check(model.outputs, model.card.label, samples.data.name)
    card = model.card
    first = Cell(card.identity, card.fingerprint, Spec(""), None, model.view, Spec("clean"), precision=model.precision)
    return [
        Ask(card.label, samples, [_with_nested(cell, plan) for cell in _cells(plan, first, samples)], model) for samples in plan.samples
    ]


def _cells(plan: Plan, model: Cell, samples: Samples) -> list[Cell]:
    """The suite's cells on one data set. `model`: a Cell that knows its model, that model's own view and precision."""
    cut = samples.traits.cut
    view = model.view if cut is None else model.view.of_cut(cut)
    return plan.suite.cells(replace(model, data=samples.spec, data_fingerprint=samples.data.fingerprint, view=view), samples.scenarios)


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
        elif param.hint.plugin == "data" and isinstance(value, Spec):
            data = load_data(value, data_dir=_place(plan.suite, value, plan.settings))
            named = value.with_params(fingerprint=data.fingerprint)
            plan.plugins[named] = data
            changed[param.name] = named
        elif param.hint.plugin and isinstance(value, Spec):
            plan.plugins[value] = resolve(value)
    return replace(cell, scenario=cell.scenario.with_params(**changed)) if changed else cell


def plugins_of(cell: Cell, plan: Plan) -> dict[str, Any]:
    """What the plug-in parameters of a cell's scenario stand for."""
    return {key: plan.plugins[value] for key, value in cell.scenario.params if isinstance(value, Spec) and value in plan.plugins}


def host(model: Classifier, cell: Cell) -> Classifier:
    """The model as a cell's scenario meets it: its transforms applied in order, behind what its view shows. The argument is untouched."""
    for spec in cell.transforms:
        function = registry.lookup("transform", spec.name).load()
        model = function(model, **{key: plain(value) for key, value in spec.params})
        if not isinstance(model, Classifier):
            raise ModelError(f"transform '{spec.name}' must return a Classifier; it returned a {type(model).__name__}.")
    return model if cell.view.shown is None else Enlarging(model, cell.view)


def manifest(plan: Plan, command: str) -> dict[str, Any]:
    """What this run asks, as the Store keeps it. Its id depends on the questions alone: asking again overwrites, and adds nothing."""
    suite = plan.suite
    cells = [_told(cell, ask) for ask in plan.asks for cell in ask.cells]
    body = {
        "suite": {
            "name": suite.name, "title": suite.title, "version": suite.version, "paper": suite.paper, "url": suite.url, "rules": suite.rules,
            "licence": suite.licence, "citation": suite.citation, "data": [canonical(spec) for spec in suite.data],
            "metrics": [canonical(spec) for spec in suite.metrics], "scenarios": [canonical(spec) for spec in suite.scenarios],
        },
        "models": {ask.label: _card(ask.model.card) for ask in plan.asks if ask.model is not None},
        "data": {samples.data.fingerprint: _about_data(samples) for samples in plan.samples},
        "limit": plan.settings.limit, "cells": cells,
    }  # fmt: skip
    return {"id": digest(body), **body, "models": _costed(plan, body["models"]), "command": command}


def _told(cell: Cell, ask: Ask) -> dict[str, Any]:
    assert ask.model is not None
    data, own = ask.samples.data, ask.samples.traits
    return {
        "cell": cell.id, "weights": cell.weights, "model": ask.label, "data": data.name, "base": own.base or data.name,
        "data_fingerprint": data.fingerprint, **_told_scenario(cell, own), "transforms": " → ".join(str(spec) for spec in cell.transforms),
        "seed": cell.seed, "precision": cell.precision, "view": str(cell.view), "model_view": str(ask.model.view),
        "storage": "" if cell.storage is None else str(cell.storage), "asked": ask.samples.asked, "source": _told_source(cell, data),
    }  # fmt: skip


def title(cell: Cell, ask: Ask) -> str:
    """A cell as people call it: `fog 3`, whether the fog is made here or came with the data; with the data's name where there are several."""
    told = _told_scenario(cell, ask.samples.traits)
    data = f" of {ask.samples.data.name}" if ask.samples.traits.base else ""
    return f"{told['scenario']} {told['severity']}".strip() + data


def _told_scenario(cell: Cell, own: Traits) -> dict[str, Any]:
    """What tables call a cell: its scenario, or, of pictures that come corrupted, what was done to them."""
    entry = registry.scenario(cell.scenario.name)
    told = {key: show(_named(value)) for key, value in (*own.params, *cell.scenario.params) if key != entry.severity}
    scenario, severity = cell.scenario.name, "" if cell.severity is None else show(cell.severity)
    if scenario == "clean" and own.scenario:
        scenario, severity = own.scenario, own.severity
    elif own.scenario:
        told |= {"on": f"{own.scenario} {own.severity}".strip()}
    params = ", ".join(f"{key}={value}" for key, value in told.items())
    return {"scenario": scenario, "severity": severity, "params": params, "kind": entry.kind, "family": entry.family}


def _named(value: Value) -> Value:
    """A nested data set without its fingerprint, which its cell's id covers."""
    if not isinstance(value, Spec) or value.kind != "data":
        return value
    return replace(value, params=tuple((key, one) for key, one in value.params if key != "fingerprint"))


def _told_source(cell: Cell, data: Data) -> str:
    entry = registry.scenario(cell.scenario.name)
    if entry.kind != "corruption" or not entry.severity:
        return data.source
    return "on-the-fly" if cell.storage is None else f"on-the-fly, {cell.storage}"


def _costed(plan: Plan, cards: Any) -> dict[str, Any]:
    """The models' cards with the MACs of a picture, counted once. No part of the manifest's id: another torch may count otherwise."""
    for ask in plan.asks:
        if ask.model is not None and ask.label not in plan.costs:
            plan.costs[ask.label] = count(ask.model.model, ask.model.size)
    return {label: _with_cost(card, plan.costs[label]) for label, card in cards.items()}


def _with_cost(card: dict[str, Any], cost: Cost) -> dict[str, Any]:
    return {**card, "macs": cost.macs, "notes": {**card["notes"], **({"macs": cost.reason} if cost.reason else {})}}


def _card(card: Card) -> dict[str, Any]:
    return {
        "weights_kind": card.weights, "fingerprint": card.fingerprint, "identity": str(card.identity), "tag": card.tag, "source": card.source,
        "url": card.url, "licence": card.licence, "citation": card.citation, "parameters": card.parameters, "notes": card.notes,
    }  # fmt: skip


def _about_data(samples: Samples) -> dict[str, Any]:
    data, own = samples.data, samples.traits
    known = registry.entries("data").get(data.name.partition(":")[0])
    about: dict[str, Any] = {"label": data.name, "name": data.name, "base": own.base or data.name, "fingerprint": data.fingerprint}
    about |= {"classes": len(data.classes), "n": len(data), "asked": samples.asked, "clips": isinstance(data.ids, Frames)}
    about |= {} if own.expected is None else {"expected": own.expected}
    about["class_names"] = list(data.classes) if len(data.classes) <= (_FEW if own.scenario else 1000) else []
    if known is not None:
        about |= {"source": known.source, "url": known.url, "licence": known.licence, "citation": known.citation, "rules": known.rules}
    return about


def shards(asked: int) -> list[tuple[int, int]]:
    """(shard, rows wanted of it) for the first `asked` samples in evaluation order."""
    return [(shard, min(SHARD, asked - shard * SHARD)) for shard in range(-(-asked // SHARD))]
