"""What a run will compute: the cells of every model on every data set, and how far each has got."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, UsageError, WeightsUnavailable
from robustvit.evaluation.checks.outputs import Outputs
from robustvit.evaluation.class_names import checked_order, nested_order
from robustvit.evaluation.datasets import Samples, mismatches, open_data, place_of, refuse_ambiguous_order, refuse_contradictions
from robustvit.evaluation.kept_images import load_kept
from robustvit.evaluation.loading import load_data, load_model, resolve
from robustvit.evaluation.macs import Cost
from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.records.records import rows
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec, Value
from robustvit.spec.suite import Suite
from robustvit.spec.view import View


@dataclass(eq=False)
class PlannedCells:
    """The cells of a suite for one model on one data set. `model` is None while its weights are not at hand (`missing` says why)."""

    label: str
    samples: Samples
    cells: list[Cell]
    model: Classifier | None
    missing: str = ""

    @property
    def unique(self) -> list[Cell]:
        """Each cell once: the first link of a chain of attacks is also the cell of that attack alone."""
        return list(dict.fromkeys(self.cells))


@dataclass
class Plan:
    """A suite, its data, and the cells of every model on every data set.

    plugins: the loaded models, data sets and images that nested Specs name. costs: MACs by model label. undroppable: why a model's tokens
    cannot be dropped, by model and transforms; "" where they can. outputs: what the outputs of models are, by label. All three are filled
    when first needed.
    """

    suite: Suite
    samples: list[Samples]
    planned: list[PlannedCells]
    settings: Settings
    plugins: dict[Spec, Any] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    undroppable: dict[tuple[Any, ...], str] = field(default_factory=dict)
    outputs: dict[str, Outputs] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of every model, once."""
        return [cell for part in self.planned for cell in part.unique]

    @property
    def pairs(self) -> Iterator[tuple[PlannedCells, Cell]]:
        """Every cell of the models that are loaded, once, with the part that it is of."""
        return ((part, cell) for part in self.planned if part.model is not None for cell in part.unique)

    def damaged(self, store: Store | None) -> list[Path]:
        """The files that a run will make again; every file of the plan's cells is read that was not found whole before."""
        if store is None:
            return []
        images = "adversarial" in self.settings.keep
        known = dict.fromkeys(cell.id for cell in self.cells if cell.resolved)
        return [path for cell in known for path in (*store.damaged_description(cell), *store.damaged(cell, images=images))]

    def done(self, store: Store | None, damaged: Iterable[Path] = ()) -> dict[str, int]:
        """Rows already here, by cell id, those of damaged files not counted; nothing for cells whose id is unresolved."""
        if store is None:
            return {}
        lost = frozenset(damaged)
        found = {}
        for part in self.planned:
            for cell in (cell for cell in part.cells if cell.resolved):
                found[cell.id] = min(part.samples.asked, rows([file for file in store.files(cell.id) if file.path not in lost]))
        return found

    def complete(self, store: Store) -> int:
        """How many cells have all their rows."""
        done = self.done(store)
        return sum(cell.resolved and done[cell.id] >= part.samples.asked for part in self.planned for cell in part.unique)

    @property
    def incomplete(self) -> list[str]:
        """A sentence for each data set without all its images, or with too many: `imagenet-a holds 7,412 of its 7,500 images`."""
        return mismatches(self.samples)

    @property
    def rows(self) -> int:
        """Rows requested in all."""
        return sum(part.samples.asked * len(part.unique) for part in self.planned)


def make(
    suite: Suite, models: Sequence[str | Spec | Classifier], data: str | Data | None, settings: Settings, *, need_weights: bool = True
) -> Plan:
    """Loads the data and the models, and lists the cells.

    models: addresses, or Classifiers. data: an address or a Data; None takes the suite's own. need_weights=False lists models whose
    weights are not here as unresolved. Raises UsageError, DataError or ModelError before anything is computed.
    """
    if isinstance(models, str | Spec | Classifier):
        raise BadParameter(f"models takes a list; write models=[{models if isinstance(models, str | Spec) else models.card.label!r}].")
    if not isinstance(models, Sequence):
        raise BadParameter(f"models takes a list of addresses and Classifiers; this is a {type(models).__name__}.")
    if not models:
        raise BadParameter("no model was named; give one with --model, for instance --model demo.")
    settings.check()
    limit = suite.limit if settings.limit is None else settings.limit
    opened = open_data(suite, data, settings.data_dir)
    plan = Plan(_adjusted(suite, settings), [Samples.of(one, limit, scenarios) for one, scenarios in opened], [], settings)
    refuse_contradictions(plan.samples)
    for address in models:
        plan.planned += _planned(plan, address, need_weights)
    labels = [part.label for part in plan.planned if part.samples is plan.samples[0]]
    for label in labels:
        if labels.count(label) > 1:
            raise BadParameter(f"the model '{label}' is named twice.")
    return plan


def _adjusted(suite: Suite, settings: Settings) -> Suite:
    """The suite with the seed and storage of the settings."""
    adjusted = suite if settings.seed is None else suite.with_seed(settings.seed)
    if settings.storage is None:
        return adjusted
    if not any(registry.scenario_entry(spec.name).stored for spec in suite.scenarios):
        raise UsageError(f"suite '{suite.name}' makes no corruptions that --storage could store; leave it out.")
    return replace(adjusted, storage=settings.storage)


def _planned(plan: Plan, address: str | Spec | Classifier, need_weights: bool) -> list[PlannedCells]:
    """The cells of one model, on every data set."""
    try:
        model = load(address, plan.settings) if isinstance(address, str | Spec) else _given(address)
    except WeightsUnavailable as error:
        if need_weights:
            raise
        blank = Cell(Spec(str(address)), None, Spec(""), None, plan.settings.view.apply(View()), Spec("clean"))
        return [PlannedCells(str(address), samples, _cells(plan, blank, samples), None, str(error)) for samples in plan.samples]
    model.view = plan.settings.view.over(plan.suite.view).apply(model.view)
    model.require_rgb(plan.samples[0].data.name)
    orders = [checked_order(model, samples.data) for samples in plan.samples]
    card = model.card
    first = Cell(card.identity, card.fingerprint, Spec(""), None, model.view, Spec("clean"), precision=model.precision)
    for pipeline in plan.suite.transforms:
        transformed(model, replace(first, transforms=pipeline))  # a transform that this model cannot have is refused here
    found = []
    for samples, order in zip(plan.samples, orders, strict=True):
        cells = _cells(plan, replace(first, class_order=order), samples)
        found.append(PlannedCells(card.label, samples, [_with_nested(cell, plan, model, samples.data) for cell in cells], model))
    return found


def _given(model: Classifier) -> Classifier:
    """A Classifier that the caller made, with the fingerprint of the weights it has now. Raises BadParameter for anything else."""
    if not isinstance(model, Classifier):
        raise BadParameter(
            f"models takes addresses and Classifiers; this is a {type(model).__name__}. "
            "Name the function that makes it: package.module:factory."
        )
    return model.identify()


def _cells(plan: Plan, model: Cell, samples: Samples) -> list[Cell]:
    """The suite's cells on one data set. `model`: a Cell with its model, that model's own view and precision."""
    cut = samples.traits.cut
    view = model.view if cut is None else model.view.for_precropped(cut)
    return plan.suite.cells(replace(model, data=samples.spec, data_fingerprint=samples.data.fingerprint, view=view), samples.scenarios)


def load(address: str | Spec, settings: Settings) -> Classifier:
    """The model at an address under a run's settings."""
    return load_model(address, device=settings.device, tile=settings.batch_size, precision=settings.precision)


def _with_nested(cell: Cell, plan: Plan, model: Classifier, data: Data) -> Cell:
    """The cell with every nested model replaced by its identity and fingerprint; the loaded model is kept in the plan under that name."""
    entry = registry.scenario_entry(cell.scenario.name)
    changed: dict[str, Value] = {}
    for param in entry.params:
        value = cell.scenario.get(param.name)
        if param.hint.plugin and isinstance(value, Spec):
            identity, plugin = _nested(param.hint.plugin, value, plan)
            order = nested_order(plugin, model, data)
            identity = identity.with_params(class_order=order) if order else identity
            plan.plugins[identity] = plugin
            changed[param.name] = identity
    return replace(cell, scenario=cell.scenario.with_params(**changed)) if changed else cell


def _nested(kind: str, value: Spec, plan: Plan) -> tuple[Spec, Any]:
    """The identity of a nested plug-in, by which cells name it, and what it is resolved to."""
    if kind == "model":
        address = value if value.params else value.name  # a bare name may be any address: `package.module:factory`, `demo`
        model = load_model(address, device=plan.settings.device, tile=plan.settings.batch_size)
        return model.card.identity.with_params(fingerprint=model.card.fingerprint), model
    if kind == "data":
        data = load_data(value, data_dir=place_of(plan.suite, value, plan.settings.data_dir))
        refuse_ambiguous_order(data)
        return value.with_params(fingerprint=data.fingerprint), data
    if kind == "kept":
        kept = load_kept(value.name)
        return kept.identity, kept
    return value, resolve(value)


def plugins_of(cell: Cell, plan: Plan) -> dict[str, Any]:
    """What the plug-in parameters of a cell's scenario were resolved to, by parameter name."""
    return {key: plan.plugins[value] for key, value in cell.scenario.params if isinstance(value, Spec) and value in plan.plugins}


def transformed(model: Classifier, cell: Cell) -> Classifier:
    """The model of a cell: its transforms applied in order, then the upsampling of its view. The argument is untouched."""
    for spec in cell.transforms:
        model = apply_transform(model, spec)
    return model if cell.view.shown is None else UpsampledClassifier(model, cell.view)


def shards(requested: int) -> list[tuple[int, int]]:
    """(shard, rows requested of it) for the first `requested` samples in evaluation order."""
    return [(shard, min(SHARD, requested - shard * SHARD)) for shard in range(-(-requested // SHARD))]
