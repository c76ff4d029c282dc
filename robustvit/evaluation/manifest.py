"""What a run writes down before it computes: which suite asked which cells of which models, under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from robustvit.evaluation.datasets import Samples
from robustvit.evaluation.kept_images import KeptImages
from robustvit.evaluation.macs import Cost, count
from robustvit.evaluation.plan import Ask, Plan, host
from robustvit.primitives.batch import Data, Traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.masked_inference import why_not_droppable
from robustvit.primitives.model_card import Card
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.sample_order import Frames
from robustvit.spec.spec import Spec, Value, canonical, digest, show

_FEW = 200  # classes whose names are told of every variant of a data set; of more, those of the base suffice


def manifest(plan: Plan, command: str) -> dict[str, Any]:
    """What this run asks, as the Store keeps it. Its id depends on the questions alone: asking again overwrites, and adds nothing."""
    suite = plan.suite
    cells = [_told(cell, ask, plan) for ask in plan.asks for cell in ask.cells]
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


def title(cell: Cell, ask: Ask) -> str:
    """A cell as people call it: `fog 3`, whether the fog is made here or came with the data; with the data's name where there are several."""
    told = _told_scenario(cell, ask.samples.traits, {})
    data = f" of {ask.samples.data.name}" if ask.samples.traits.base else ""
    return f"{told['scenario']} {told['severity']}".strip() + data


def _told(cell: Cell, ask: Ask, plan: Plan) -> dict[str, Any]:
    assert ask.model is not None
    data, own = ask.samples.data, ask.samples.traits
    return {
        "cell": cell.id, "weights": cell.weights, "model": ask.label, "data": data.name, "base": own.base or data.name,
        "data_fingerprint": data.fingerprint, **_told_scenario(_resolved(cell, ask, plan), own, plan.plugins), "transforms": " → ".join(str(spec) for spec in cell.transforms),
        "seed": cell.seed, "precision": cell.precision, "view": str(cell.view), "model_view": str(ask.model.view),
        "storage": "" if cell.storage is None else str(cell.storage), "asked": ask.samples.asked, "source": _told_source(cell, data),
        "link": 0 if cell.link is None else cell.link.place, "links": 0 if cell.link is None else cell.link.of, "attack": cell.scenario.name,
    }  # fmt: skip


def _resolved(cell: Cell, ask: Ask, plan: Plan) -> Cell:
    """A certificate that leaves it to the model what becomes of unseen tokens, with what becomes of them: two models may answer two questions."""
    if cell.scenario.get("unseen") != "auto":
        return cell
    return replace(cell, scenario=cell.scenario.with_params(unseen="kept" if _undroppable(cell, ask, plan) else "dropped"))


def _undroppable(cell: Cell, ask: Ask, plan: Plan) -> str:
    """Why a model's tokens cannot be dropped, asked once of each model and its transforms; "" where they can."""
    assert ask.model is not None
    key = (ask.label, cell.transforms, cell.view.shown)
    if key not in plan.undroppable:
        plan.undroppable[key] = why_not_droppable(host(ask.model, cell))
    return plan.undroppable[key]


def _told_scenario(cell: Cell, own: Traits, plugins: Mapping[Spec, Any]) -> dict[str, Any]:
    """What tables call a cell: its scenario, or, of pictures that come corrupted, what was done to them."""
    asked = cell.scenario if cell.link is None else cell.link.chain
    entry = registry.scenario(asked.name)
    named = replace(asked, params=tuple((key, _named(value, plugins)) for key, value in asked.params))
    told = {key: show(value) for key, value in (*own.params, *named.without(entry.severity).params)}
    level = asked.at(entry.severity) if entry.severity else None
    scenario, severity = asked.name, "" if level is None else show(level)
    if scenario == "clean" and own.scenario:
        scenario, severity = own.scenario, own.severity
    elif own.scenario:
        told |= {"on": f"{own.scenario} {own.severity}".strip()}
    params = ", ".join(f"{key}={value}" for key, value in told.items())
    return {"scenario": scenario, "severity": severity, "params": params, "kind": entry.kind, "family": entry.family}


def _named(value: Value, plugins: Mapping[Spec, Any]) -> Value:
    """Nested images and models by their label, a nested data set without its fingerprint: their cell's id covers what they are."""
    if not isinstance(value, Spec):
        return value
    found = plugins.get(value)
    if isinstance(found, KeptImages):
        return found.label
    return found.card.label if isinstance(found, Classifier) else value.without("fingerprint")


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
    unseen = {key[0]: reason for key, reason in plan.undroppable.items() if reason}
    return {label: _with_notes(_with_cost(card, plan.costs[label]), unseen.get(label, "")) for label, card in cards.items()}


def _with_notes(card: dict[str, Any], undroppable: str) -> dict[str, Any]:
    told = {"unseen tokens": f"kept, black, in certificates that ask for auto: {undroppable}"} if undroppable else {}
    return {**card, "notes": {**card["notes"], **told}}


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
    about |= {} if data.readings[0].columns is None else {"columns": list(data.readings[0].columns)}
    about["class_names"] = list(data.classes) if len(data.classes) <= (_FEW if own.scenario else 1000) else []
    if known is not None:
        about |= {"source": known.source, "url": known.url, "licence": known.licence, "citation": known.citation, "rules": known.rules}
    return about
