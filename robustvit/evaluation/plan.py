"""What a run will compute: the cells of every model on every data set, and how far each has got."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, HostRefused, UsageError, WeightsUnavailable
from robustvit.evaluation.checks.outputs import Outputs
from robustvit.evaluation.class_names import checked_order
from robustvit.evaluation.datasets import Samples, mismatches, open_data, refuse_contradictions
from robustvit.evaluation.evaluate import as_tensors
from robustvit.evaluation.loading import load_model
from robustvit.evaluation.pipelines.costs import PipelineCosts
from robustvit.evaluation.pipelines.heads import head_of
from robustvit.evaluation.pipelines.nested import Place, nested_of, resolved_pipeline, resolved_scenario, why_own_host
from robustvit.evaluation.pipelines.requests import Pipeline, requested_models
from robustvit.evaluation.pipelines.transformed import Artifact, pipeline_host
from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier
from robustvit.primitives.surgery.hosts import check_host
from robustvit.records.records import rows
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.cell import Cell
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec
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

    plugins: the loaded models, data sets and images that nested Specs name. costs: of an image, by model label and transforms. undroppable:
    why a model's tokens cannot be dropped, by model and transforms; "" where they can. outputs: what the outputs of models are, by label.
    artifacts: what transforms learned, by id. undefined: why a pipeline does not take a model, by label and transforms; refused: why a
    scenario does not take the model of a cell. All are filled when first needed. data: the address of the first data set, None for a Data.
    """

    suite: Suite
    samples: list[Samples]
    planned: list[PlannedCells]
    settings: Settings
    plugins: dict[Spec, Any] = field(default_factory=dict)
    costs: dict[tuple[str, Pipeline], PipelineCosts] = field(default_factory=dict)
    undroppable: dict[tuple[Any, ...], str] = field(default_factory=dict)
    outputs: dict[str, Outputs] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    undefined: dict[tuple[str, Pipeline], str] = field(default_factory=dict)
    refused: dict[Cell, str] = field(default_factory=dict)
    data: str | Spec | None = None

    @property
    def cells(self) -> list[Cell]:
        """Every cell of every model that has a value, once."""
        return [cell for part in self.planned for cell in self.defined(part)]

    @property
    def pairs(self) -> Iterator[tuple[PlannedCells, Cell]]:
        """Every cell of the models that are loaded, once, with the part that it is of; none without a value."""
        return ((part, cell) for part in self.planned if part.model is not None for cell in self.defined(part))

    def defined(self, part: PlannedCells) -> list[Cell]:
        """The cells of a part that have a value, once."""
        return [cell for cell in part.unique if not self.why_undefined(part, cell)]

    def why_undefined(self, part: PlannedCells, cell: Cell) -> str:
        """Why a cell has no value whatever is computed; "" where it has one."""
        return self.undefined.get((part.label, cell.transforms), "") or cell.undefined or self.refused.get(cell, "")

    def fitted(self, cell: Cell) -> bool:
        """Whether everything that the transforms of a cell learn is at hand in `artifacts`."""
        ids = (cell.learned_id(place) for place in range(len(cell.transforms)))
        return all(one is None or one in self.artifacts for one in ids)

    def take_artifacts(self, store: Store) -> None:
        """Takes over what transforms learned in earlier runs of a store."""
        for cell in self.cells:
            for name in (cell.learned_id(place) for place in range(len(cell.transforms)) if cell.resolved):
                if name is not None and name not in self.artifacts and (kept := store.artifact(name)) is not None:
                    self.artifacts[name] = as_tensors(kept)

    def host(self, model: Classifier, cell: Cell) -> Classifier:
        """The model of a cell: its transforms applied in order, then the upsampling of its view. The argument is untouched.

        model: before all transforms. Raises HostRefused where one does not take it, LookupError where what one learned is not at hand.
        """
        made = pipeline_host(model, cell.transforms, self.plugins, lambda place: self.artifacts[str(cell.learned_id(place))])
        return made if cell.view.shown is None else UpsampledClassifier(made, cell.view)

    def try_host(self, label: str, model: Classifier, cell: Cell) -> None:
        """Builds the model of a cell as far as nothing has to be learned for it, and notes in `undefined` why a transform refuses it.

        Raises ModelError or BadParameter for a fault of a transform or its parameters.
        """
        learns = [place for place in range(len(cell.transforms)) if cell.learned_id(place) is not None]
        upto = learns[0] if learns else len(cell.transforms)
        try:
            made = self.host(model, replace(cell, transforms=cell.transforms[:upto]))
            if learns:
                spec = cell.transforms[upto]
                check_host(spec.name, registry.lookup("transform", spec.name).hosts, made)
        except HostRefused as error:
            self.undefined[label, cell.transforms] = str(error)

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
        return sum(cell.resolved and done[cell.id] >= part.samples.asked for part in self.planned for cell in self.defined(part))

    @property
    def incomplete(self) -> list[str]:
        """A sentence for each data set without all its images, or with too many: `imagenet-a holds 7,412 of its 7,500 images`."""
        return mismatches(self.samples)

    @property
    def rows(self) -> int:
        """Rows requested in all."""
        return sum(part.samples.asked * len(self.defined(part)) for part in self.planned)


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
    plan.data = suite.data[0] if data is None else data if isinstance(data, str) else None
    refuse_contradictions(plan.samples)
    for base, pipelines in requested_models(models):
        plan.planned += _planned(plan, base, pipelines, need_weights)
    labels = [part.label for part in plan.planned if part.samples is plan.samples[0]]
    for label in labels:
        if labels.count(label) > 1:
            raise BadParameter(f"the model '{label}' is named twice.")
    return plan


def _adjusted(suite: Suite, settings: Settings) -> Suite:
    """The suite with the seed and storage of the settings."""
    if settings.storage is not None and not any(registry.scenario_entry(spec.name).stored for spec in suite.scenarios):
        raise UsageError(f"suite '{suite.name}' makes no corruptions that --storage could store; leave it out.")
    adjusted = suite if settings.seed is None else suite.with_seed(settings.seed)
    return adjusted if settings.storage is None else replace(adjusted, storage=settings.storage)


def _planned(plan: Plan, base: str | Spec | Classifier, pipelines: Sequence[Pipeline], need_weights: bool) -> list[PlannedCells]:
    """The cells of one model, with each of its own pipelines followed by each of the suite's, on every data set."""
    steps = [own + after for own in pipelines for after in plan.suite.transforms]
    try:
        own = plan.settings
        model = base if isinstance(base, Classifier) else load_model(base, device=own.device, tile=own.batch_size, precision=own.precision)
    except WeightsUnavailable as error:
        if need_weights:
            raise
        blank = Cell(Spec(str(base)), None, Spec(""), None, plan.settings.view.apply(View()), Spec("clean"))
        return [PlannedCells(str(base), samples, _cells(plan, steps, blank, samples), None, str(error)) for samples in plan.samples]
    model.view = plan.settings.view.over(plan.suite.view).apply(model.view)
    model.require_rgb(plan.samples[0].data.name)
    card, place = model.card, Place(model, plan.settings, plan.suite, plan.data)
    steps = [resolved_pipeline(pipeline, place, plan.plugins) for pipeline in steps]
    heads = {pipeline: head_of(pipeline, plan.plugins) for pipeline in steps}
    orders = {head: [checked_order(model, samples.data, head) for samples in plan.samples] for head in heads.values()}
    first = Cell(card.identity, card.fingerprint, Spec(""), None, model.view, Spec("clean"), precision=model.precision)
    for pipeline in steps:
        plan.try_host(card.label, model, replace(first, transforms=pipeline))
    found = []
    for number, samples in enumerate(plan.samples):
        part = PlannedCells(card.label, samples, [], model)
        for cell in (
            cell
            for head, order in orders.items()
            for cell in _cells(plan, [one for one in steps if heads[one] == head], replace(first, class_order=order[number]), samples)
        ):
            scenario = resolved_scenario(cell.scenario, place._replace(head=heads[cell.transforms]), samples.data, plan.plugins)
            undefined = "" if cell.transforms else why_own_host(cell.scenario, card.label)
            part.cells.append(replace(cell, scenario=scenario, undefined=undefined))
        found.append(part)
    return found


def _cells(plan: Plan, pipelines: Sequence[Pipeline], model: Cell, samples: Samples) -> list[Cell]:
    """The suite's cells on one data set. `model`: a Cell with its model, that model's own view and precision."""
    suite = replace(plan.suite, transforms=tuple(dict.fromkeys(pipelines)))
    cut = samples.traits.cut
    view = model.view if cut is None else model.view.for_precropped(cut)
    return suite.cells(replace(model, data=samples.spec, data_fingerprint=samples.data.fingerprint, view=view), samples.scenarios)


def plugins_of(cell: Cell, plan: Plan) -> dict[str, Any]:
    """What the plug-in parameters of a cell's scenario were resolved to, by parameter name."""
    return nested_of(cell.scenario, plan.plugins)


def shards(requested: int) -> list[tuple[int, int]]:
    """(shard, rows requested of it) for the first `requested` samples in evaluation order."""
    return [(shard, min(SHARD, requested - shard * SHARD)) for shard in range(-(-requested // SHARD))]
