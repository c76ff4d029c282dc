"""The manifest of a run: the cells of every model that a suite requests, under the names that tables show."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from robustvit.errors import ModelError
from robustvit.evaluation.class_names import match_classes
from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.datasets import Samples
from robustvit.evaluation.images.kept_images import KeptImages
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.primitives.batch import Data, Traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.content import encoded_images
from robustvit.primitives.inference.masked_inference import why_not_droppable
from robustvit.primitives.model_card import Card
from robustvit.records.manifest import DataFacts, Manifest, ModelFacts, RequestedCell, SuiteFacts
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.sample_order import Frames
from robustvit.spec.spec import Spec, Value, canonical, digest, show
from robustvit.spec.written.pipeline import pipeline_text, shown_steps, write_pipeline

_SEEN = ("macs", "outputs", "pipelines")  # what was counted and seen of a model, no part of what is requested
_FEW = 200  # classes whose names are recorded for every variant of a data set; of more, those of the base suffice


def manifest(plan: Plan, command: str) -> Manifest:
    """What this run requests, as the Store keeps it.

    Its id depends on the cells alone: the same request again overwrites, and adds nothing.
    """
    suite = plan.suite
    made = Manifest(
        id="",
        suite=SuiteFacts(
            name=suite.name, title=suite.title, version=suite.version, paper=suite.paper, url=suite.url, rules=suite.rules,
            licence=suite.licence, citation=suite.citation, data=[canonical(spec) for spec in suite.data],
            metrics=[canonical(spec) for spec in suite.metrics], scenarios=[canonical(spec) for spec in suite.scenarios],
            code=list(suite.code),
        ),
        cells=[_requested(cell, part, plan) for part in plan.planned for cell in part.cells],
        models={part.label: _model_facts(part.model.card) for part in plan.planned if part.model is not None},
        data={samples.data.fingerprint: _data_facts(samples) for samples in plan.samples},
        limit=plan.settings.limit, command=command,
    )  # fmt: skip
    return replace(made, id=_id(made), models={label: _with_costs(label, facts, plan) for label, facts in made.models.items()})


def _id(made: Manifest) -> str:
    """The hash of what is requested. Costs, which another torch may count otherwise, and what was seen of a model are no part of it."""
    body = {key: value for key, value in made.as_json().items() if key not in ("id", "command")}
    body["cells"] = [{key: value for key, value in cell.items() if key != "undefined"} for cell in body["cells"]]
    models = {label: {key: value for key, value in card.items() if key not in _SEEN} for label, card in body["models"].items()}
    return digest({**body, "limit": made.limit, "models": models})


def title(cell: Cell, part: PlannedCells, plan: Plan) -> str:
    """A cell's name: `fog 3`, whether the corruption is made here or came with the data; with the data's name where there are several.

    Of images that were crafted on another model, `pgd 4/255 from demo`.
    """
    facts = _scenario_facts(cell, part.samples.traits, {})
    data = f" of {part.samples.label}" if part.samples.traits.base or part.samples.label != part.samples.data.name else ""
    source = "" if cell.waits_for is None else _surrogate(cell, plan)
    return f"{facts['scenario']} {facts['severity']}".strip() + data + (f" from {source}" if source else "")


def undefined_cells(plan: Plan) -> dict[str, str]:
    """Why cells have no value, by model and transforms, or by the scenario's name as well where only it has none."""
    found = {}
    for part in plan.planned:
        for cell in part.unique:
            name = part.label + write_pipeline(shown_steps(cell.transforms))
            if whole := plan.undefined.get((part.label, cell.transforms), ""):
                found[name] = whole
            elif own := plan.why_undefined(part, cell):
                found[f"{name} {cell}"] = own
    return found


def _requested(cell: Cell, part: PlannedCells, plan: Plan) -> RequestedCell:
    assert part.model is not None
    data, own, surrogate = part.samples.data, part.samples.traits, _surrogate(cell, plan, weights=True)
    facts = _scenario_facts(_resolved(cell, part, plan), own, plan.plugins)
    if cell.surrogate is not None and not cell.crafts:
        stored = f"stored_as={cell.surrogate.stored}" if cell.surrogate.stored else ""
        facts |= {"params": ", ".join(filter(None, (facts["params"], f"surrogate={surrogate}", stored))), "family": "surrogate"}
    return RequestedCell(
        cell=cell.id, weights=cell.weights, model=part.label, data=part.samples.label, base=part.samples.base,
        data_fingerprint=data.fingerprint,
        **facts, transforms=pipeline_text(cell.transforms),
        seed=cell.seed, precision=cell.precision, view=str(cell.view), model_view=str(part.model.view),
        storage="" if cell.storage is None else str(cell.storage), asked=part.samples.asked, source=_source(cell, data),
        link=0 if cell.link is None else cell.link.place, links=0 if cell.link is None else cell.link.of, attack=cell.scenario.name,
        undefined=plan.why_undefined(part, cell), surrogate=surrogate,
    )  # fmt: skip


def _surrogate(cell: Cell, plan: Plan, *, weights: bool = False) -> str:
    """The label of the model on which a cell's images are crafted, with its transforms; "" where it is attacked itself.

    weights: with the first digits of the fingerprint of its weights, so that models of one label stay apart in a store.
    """
    made = cell.surrogate
    if made is None:
        return ""
    own = plan.labels[made.model, made.weights] + (f"#{made.weights[:6]}" if weights else "")
    return own + write_pipeline(shown_steps(made.transforms))


def _resolved(cell: Cell, part: PlannedCells, plan: Plan) -> Cell:
    """A certificate with `unseen: auto` resolved for this model: two models may be evaluated on two different questions."""
    if cell.scenario.get("unseen") != "auto" or plan.why_undefined(part, cell) or not plan.fitted(cell):
        return cell
    return replace(cell, scenario=cell.scenario.with_params(unseen="kept" if _undroppable(cell, part, plan) else "dropped"))


def _undroppable(cell: Cell, part: PlannedCells, plan: Plan) -> str:
    """Why a model's tokens cannot be dropped, found once for each model and its transforms; "" where they can."""
    assert part.model is not None
    key = (part.label, cell.transforms, cell.view.shown)
    if key not in plan.undroppable:
        plan.undroppable[key] = why_not_droppable(plan.host(part.model, cell))
    return plan.undroppable[key]


def _scenario_facts(cell: Cell, own: Traits, plugins: Mapping[Spec, Any]) -> dict[str, Any]:
    """The names that tables show of a cell: its scenario, or, of images that come corrupted, their corruption."""
    requested = cell.scenario if cell.link is None else cell.link.chain
    entry = registry.scenario_entry(requested.name)
    named = replace(requested, params=tuple((key, _named(value, plugins)) for key, value in requested.params))
    shown = {key: show(value) for key, value in (*own.params, *named.without(entry.severity).params)}
    level = requested.at(entry.severity) if entry.severity else None
    scenario, severity = requested.name, "" if level is None else show(level)
    if scenario == "clean" and own.scenario:
        scenario, severity = own.scenario, own.severity
    elif own.scenario:
        shown |= {"on": f"{own.scenario} {own.severity}".strip()}
    shown |= {"through": cell.attack_through} if cell.attack_through else {}
    params = ", ".join(f"{key}={value}" for key, value in shown.items())
    return {"scenario": scenario, "severity": severity, "params": params, "kind": entry.kind, "family": entry.family}


def _named(value: Value, plugins: Mapping[Spec, Any]) -> Value:
    """Nested images and models by their label, a nested data set without its fingerprint: their cell's id covers what they are."""
    if not isinstance(value, Spec):
        return value
    found = plugins.get(value)
    if isinstance(found, KeptImages):
        return found.label
    return found.card.label if isinstance(found, Classifier) else value.without("fingerprint").without("class_order")


def _source(cell: Cell, data: Data) -> str:
    if not registry.scenario_entry(cell.scenario.name).stored:
        return data.source
    return "on-the-fly" if cell.storage is None else f"on-the-fly, {cell.storage}"


def _with_costs(label: str, facts: ModelFacts, plan: Plan) -> ModelFacts:
    """The facts with the costs of one image, for each pipeline of transforms, and a note on tokens that cannot be dropped."""
    model = next(part.model for part in plan.planned if part.label == label and part.model is not None)
    costs = {pipeline_text(steps): one for (name, steps), one in plan.costs.items() if name == label}
    cost = costs.get("") or count(model.model, model.size, model.channels)
    outputs = plan.outputs.get(label)
    undroppable = next((reason for key, reason in plan.undroppable.items() if key[0] == label and reason), "")
    notes = {"macs": cost.reason} if cost.reason else {}
    notes |= _matched_by_name(label, model, plan)
    notes |= {"unseen tokens": f"kept, black, in certificates that ask for auto: {undroppable}"} if undroppable else {}
    told = {name: one.facts() for name, one in costs.items()}
    return replace(
        facts, macs=cost.macs, outputs=outputs.reason if outputs else "", notes={**facts.notes, **notes}, pipelines=told
    )  # fmt: skip


def _matched_by_name(label: str, model: Classifier, plan: Plan) -> dict[str, str]:
    """A note on the data sets whose classes were matched with the model's by their names."""
    data = [part.samples.data for part in plan.planned if part.label == label]
    found = set[str]()
    for one in data:
        with contextlib.suppress(ModelError):  # where only transforms give it a head for this data
            if by := match_classes(model, one).by:
                found.add(f"{one.name} by {by}")
    return {"classes": f"matched with {', '.join(sorted(found))}"} if found else {}


def _model_facts(card: Card) -> ModelFacts:
    return ModelFacts(
        weights_kind=card.weights, fingerprint=card.fingerprint, identity=str(card.identity), tag=card.tag, source=card.source,
        url=card.url, licence=card.licence, citation=card.citation, parameters=card.parameters, notes=card.notes,
    )  # fmt: skip


def _data_facts(samples: Samples) -> DataFacts:
    data, own = samples.data, samples.traits
    encoded = encoded_images(data) is not None or bool(getattr(data, "former_fingerprint", ""))
    known = registry.entries("data").get(data.name.partition(":")[0])
    columns = data.readings[0].columns
    facts = DataFacts(
        label=samples.label, name=data.name, base=samples.base, fingerprint=data.fingerprint, classes=len(data.classes), n=len(data),
        asked=samples.asked, clips=isinstance(data.ids, Frames), expected=own.expected, left_out=samples.left_out or None,
        filtered=own.filtered or None, identified_by="names, sizes and the bytes of the first 64" if encoded else "its content",
        columns=None if columns is None else list(columns),
        class_names=list(data.classes) if len(data.classes) <= (_FEW if own.scenario else 1000) else [],
    )  # fmt: skip
    if known is None:
        return facts
    return replace(facts, source=known.source, url=known.url, licence=known.licence, citation=known.citation, rules=known.rules)
