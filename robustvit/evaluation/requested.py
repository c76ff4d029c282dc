"""Makes the plan of a run: opens its data, loads the models that it requests, and lists the cells of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from robustvit.errors import ModelError, UsageError, WeightsUnavailable, few
from robustvit.evaluation import environment
from robustvit.evaluation.class_names import Logits, checked_order
from robustvit.evaluation.cost.tile_size import fastest_tile
from robustvit.evaluation.datasets import open_data, refuse_contradictions, samples_of
from robustvit.evaluation.loading import load_model
from robustvit.evaluation.pipelines.heads import head_of
from robustvit.evaluation.pipelines.nested import Place, names_given, resolved_pipeline, resolved_scenario, why_own_host, with_given
from robustvit.evaluation.pipelines.requests import Base, Model, Pipeline, given_models, refuse_same_labels, requested_models
from robustvit.evaluation.plan import Plan, PlannedCells
from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.lesions.shown_channels import require_channels
from robustvit.primitives.scenario import takes_headless
from robustvit.spec import registry
from robustvit.spec.cell import Cell, Surrogate
from robustvit.spec.grouping import grouped
from robustvit.spec.spec import Spec
from robustvit.spec.suite import GIVEN, MODELS, PREDICTED, Suite, crafted
from robustvit.spec.view import View


@dataclass(eq=False)
class _Requested:
    """A model of a run, with its pipelines of transforms, the suite's among them.

    model: None while its weights are not at hand (`missing` says why). pipelines: with which it is evaluated; crafting: with which others'
    images are crafted on it. first: a Cell that knows the model. heads: what its logits are after a pipeline that replaces its head.
    orders: for each data set what a Cell with a pipeline says of the order of its classes, None where its outputs are other classes.
    views: what it is shown with a pipeline, which may change the size of images.
    """

    label: str
    model: Classifier | None
    pipelines: list[Pipeline]
    first: Cell
    heads: dict[Pipeline, Logits | None]
    orders: list[dict[Pipeline, str | None]]
    views: dict[Pipeline, View]
    missing: str = ""
    crafting: list[Pipeline] = field(default_factory=list)

    def surrogates(self, place: int) -> Iterator[Surrogate]:
        """The model with each of its pipelines as a surrogate on the data set at a place."""
        if self.model is None:
            return
        for pipeline in self.crafting:
            order, size = self.orders[place][pipeline] or "", self.views[pipeline].size
            yield Surrogate(self.first.model, str(self.first.weights), pipeline, order, size)


def make(suite: Suite, models: Sequence[Model], data: str | Data | None, settings: Settings, *, need_weights: bool = True) -> Plan:
    """Loads the data and the models, and lists the cells.

    models: addresses, Classifiers, or modules. data: an address or a Data; None takes the suite's own. need_weights=False lists models
    whose weights are not here as unresolved. Raises UsageError, DataError or ModelError before anything is computed.
    """
    named = given_models(models)
    settings.check()
    settings = replace(settings, device=environment.devices(settings.device)[0])
    suite = _adjusted(suite, settings)
    limit = suite.limit if settings.limit is None else settings.limit
    skipped: list[str] = []
    opened = open_data(suite, data, settings.data_dir, skipped if settings.skip_missing else None)
    plan = Plan(suite, samples_of(opened, limit), [], settings, skipped=skipped)
    plan.data = suite.data[0] if data is None else data if isinstance(data, str) else None
    refuse_contradictions(plan.samples)
    requested = _all_requested(plan, named, need_weights)
    for one in requested:
        plan.labels[one.first.model, str(one.first.weights)] = one.label
        plan.planned += _planned(plan, one, requested)
    labels = [part.label for part in plan.planned if part.samples is plan.samples[0]]
    refuse_same_labels(labels, named)
    _add_crafting(plan)
    return plan


def load(address: str | Spec, settings: Settings) -> Classifier:
    """The model at an address under a run's settings."""
    rows = settings.batch_size
    model = load_model(address, device=settings.device, tile=rows if isinstance(rows, int) else None, precision=settings.precision)
    return model.configure(tile=fastest_tile(model)) if rows == environment.AUTO else model


def _adjusted(suite: Suite, settings: Settings) -> Suite:
    """The suite with the seed, the storage and the surrogates of the settings."""
    adjusted = suite if settings.seed is None else suite.with_seed(settings.seed)
    if settings.surrogates:
        nested = any(names_given(spec) for spec in suite.scenarios)
        if not suite.surrogates and not nested:
            raise UsageError(
                f"suite '{suite.name}' crafts nothing on surrogates; leave --surrogate out, or give `surrogates: given` in it."
            )
        if nested and not all(isinstance(one, str) and one != MODELS for one in settings.surrogates):
            raise UsageError(f"suite '{suite.name}' takes a surrogate by its address, and nothing else; give --surrogate MODEL.")
    elif GIVEN in suite.surrogates:
        raise UsageError(
            f"suite '{suite.name}' crafts images on a surrogate that the run names: give --surrogate MODEL, once for each, such as the "
            f"backbone that your models were fine-tuned from, or --surrogate {MODELS} for the models of the run themselves."
        )
    if settings.storage is None:
        return adjusted
    if not any(registry.scenario_entry(spec.name).stored for spec in suite.scenarios):
        raise UsageError(f"suite '{suite.name}' makes no corruptions that --storage could store; leave it out.")
    return replace(adjusted, storage=settings.storage)


def _all_requested(plan: Plan, models: Sequence[Base], need_weights: bool) -> list[_Requested]:
    """The models of a run, and after them those surrogates that are not among these, which are not evaluated on others' images."""
    named = (plan.settings.surrogates or plan.suite.surrogates) if plan.suite.surrogates else ()
    wanted = [one for one in named if not isinstance(one, str) or one != MODELS]
    found = [_requested(plan, *one, plan.suite.transforms, need_weights) for one in requested_models(models)]
    for one in found if len(wanted) < len(named) else ():
        one.crafting = list(one.pipelines)
    for base, pipelines in requested_models(wanted) if wanted else ():
        own = _requested(plan, base, pipelines, ((),), need_weights, foreign=True)
        known = next((one for one in found if (own.label, own.first.weights) == (one.label, one.first.weights)), None)
        if known is None:
            own.pipelines, own.crafting = [], own.pipelines
            found.append(own)
        else:
            known.crafting = list(dict.fromkeys((*known.crafting, *own.pipelines)))
            known.heads |= own.heads
            known.views |= own.views
            known.orders = [mine | its for mine, its in zip(known.orders, own.orders, strict=True)]
    return found


def _requested(
    plan: Plan, base: Base, own: Sequence[Pipeline], after: Sequence[Pipeline], need_weights: bool, foreign: bool = False
) -> _Requested:  # fmt: skip
    """A model with each of its own pipelines followed by each of others. foreign: whether its outputs may be other classes."""
    steps = [pipeline + more for pipeline in own for more in after]
    try:
        model = base if isinstance(base, Classifier) else load(base, plan.settings)
    except WeightsUnavailable as error:
        if need_weights:
            raise
        blank = Cell(Spec(str(base)), None, Spec(""), None, plan.settings.view.apply(View()), Spec("clean"))
        return _Requested(str(base), None, steps, blank, {}, [dict.fromkeys(steps, "") for _ in plan.samples], {}, str(error))
    model.view = plan.settings.view.over(plan.suite.view).apply(model.view)
    for samples in plan.samples:
        require_channels(model, samples.data)
    steps = list(dict.fromkeys(resolved_pipeline(pipeline, _place(plan, model), plan.plugins) for pipeline in steps))
    heads = {pipeline: head_of(pipeline, plan.plugins) for pipeline in steps}
    orders = []
    for samples in plan.samples:
        of_head = {head: _order(plan, model, samples.data, head, foreign) for head in heads.values()}
        orders.append({pipeline: of_head[head] for pipeline, head in heads.items()})
    first = Cell(model.card.identity, model.card.fingerprint, Spec(""), None, model.view, Spec("clean"), precision=model.precision)
    views = {pipeline: plan.try_host(model.card.label, model, replace(first, transforms=pipeline)) for pipeline in steps}
    return _Requested(model.card.label, model, steps, first, heads, orders, views)


def _place(plan: Plan, model: Classifier, head: Logits | None = None) -> Place:
    return Place(model, plan.settings, plan.suite, plan.data, head)


def _order(plan: Plan, model: Classifier, data: Data, head: Logits | None, foreign: bool) -> str | None:
    """What cells say of the order of a model's classes. None for a surrogate of other classes, where no attack needs the labels, and for a
    model without a head, where the suite has analyses that take it. Raises ModelError where the outputs are not the classes of the data.
    """
    try:
        return checked_order(model, data, head)
    except ModelError as error:
        needing = [spec.name for spec in plan.suite.scenarios if crafted(spec) and not registry.scenario_entry(spec.name).label_free]
        needing = [] if plan.suite.surrogate_labels == PREDICTED else needing
        if model.card.headless and head is None and any(map(takes_headless, plan.suite.scenarios)):
            return None
        if not foreign:
            raise
        if needing:
            label_free = [name for name, entry in registry.entries("attack").items() if entry.label_free]
            raise ModelError(
                f"surrogate '{model.card.label}': {error} The attack '{needing[0]}' needs the labels of data '{data.name}'; attacks on "
                f"features take a surrogate of any outputs ({few(label_free)}), and every attack does with "
                f"`surrogate_labels: {PREDICTED}` in the suite, which stand for the labels."
            ) from error
        return None


def _planned(plan: Plan, one: _Requested, requested: Sequence[_Requested]) -> list[PlannedCells]:
    """The cells of one model on every data set."""
    found = []
    for place, samples in enumerate(plan.samples):
        part = PlannedCells(one.label, samples, [], one.model, one.missing)
        sources = {surrogate: source for source in requested for surrogate in source.surrogates(place)}
        for cell in with_given(_cells(plan, one, place, list(sources)), plan.settings.surrogates):
            source = one if cell.surrogate is None else sources[cell.surrogate._replace(stored="", labels="")]
            part.cells.append(cell if one.model is None else _resolved(plan, cell, source, one, samples.data))
        found.append(part)
    return found


def _resolved(plan: Plan, cell: Cell, source: _Requested, one: _Requested, data: Data) -> Cell:
    """The cell with its nested plug-ins resolved for the model that its attack is run on, and why it has no value."""
    assert source.model is not None
    assert one.model is not None
    pipeline = cell.transforms if cell.surrogate is None else cell.surrogate.transforms
    reads = all(order.get(pipeline) is not None for order in source.orders)
    here = _place(plan, source.model, source.heads.get(pipeline))
    scenario = resolved_scenario(cell.scenario, here, data, plan.plugins, reads=reads, size=cell.view.size)
    undefined = "" if cell.transforms else why_own_host(cell.scenario, one.label)
    if reads is False and cell.surrogate is None and not takes_headless(cell.scenario):
        undefined = f"model '{one.label}' has no head: its outputs are features, and no classes"
    if cell.surrogate is not None:
        refusal = plan.undefined.get((source.label, pipeline), "")
        if source.model.card.headless and not source.heads.get(pipeline) and cell.surrogate.labels:
            refusal = "it has no head, whose predictions could stand for labels"
        undefined = f"its surrogate '{source.label}' crafts nothing: {refusal}" if refusal else undefined
    return replace(cell, scenario=scenario, undefined=undefined)


def _cells(plan: Plan, one: _Requested, place: int, sources: Sequence[Surrogate]) -> list[Cell]:
    """The suite's cells of a model on the data set at a place; none of pipelines that are surrogates alone."""
    samples, orders = plan.samples[place], one.orders[place]
    cut = samples.traits.cut
    own = replace(one.first, data=samples.spec, data_fingerprint=samples.data.fingerprint)

    def shown(pipeline: Pipeline) -> View:
        view = one.views.get(pipeline, one.first.view)
        return view if cut is None else view.for_precropped(cut)

    return [
        cell
        for (order, view), pipelines in grouped(((orders[pipeline] or "", shown(pipeline)), pipeline) for pipeline in one.pipelines).items()
        for cell in replace(plan.suite, transforms=tuple(pipelines)).cells(
            replace(own, class_order=order, view=view), samples.scenarios, sources
        )
    ]


def _add_crafting(plan: Plan) -> None:
    """Adds the cells that craft images in the views of the models that are evaluated on them, where these are not there already."""
    identities = {label: identity for identity, label in plan.labels.items()}
    parts = {(part.samples.data.fingerprint, identities.get(part.label)): part for part in plan.planned}
    for part in plan.planned:
        for crafting in [cell.crafting for cell in part.cells if cell.surrogate is not None and not cell.undefined]:
            assert crafting is not None
            cells = parts[crafting.data_fingerprint or "", (crafting.model, str(crafting.weights))].cells
            if crafting not in cells:
                cells.append(crafting)
