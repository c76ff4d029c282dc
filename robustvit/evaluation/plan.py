"""What a run will compute: the cells of every model on every data set, and how far each has got."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, HostRefused
from robustvit.evaluation.checks.outputs import Outputs
from robustvit.evaluation.datasets import Samples, mismatches
from robustvit.evaluation.evaluate import as_tensors
from robustvit.evaluation.pipelines.costs import PipelineCosts
from robustvit.evaluation.pipelines.nested import nested_of
from robustvit.evaluation.pipelines.requests import Pipeline
from robustvit.evaluation.pipelines.transformed import Artifact, pipeline_host
from robustvit.evaluation.settings import Settings
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import UpsampledClassifier
from robustvit.primitives.surgery.hosts import check_host
from robustvit.records.damage import ImagesRequired
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
    scenario does not take the model of a cell. labels: of models, by their identity and weights. All are filled
    when first needed. data: the address of the first data set, None for a Data. skipped: the data sets that are not here, and left out.
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
    labels: dict[tuple[Spec, str], str] = field(default_factory=dict)
    data: str | Spec | None = None
    skipped: Sequence[str] = ()

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

    def try_host(self, label: str, model: Classifier, cell: Cell) -> View:
        """Builds the model of a cell as far as nothing has to be learned for it, and notes in `undefined` why a transform refuses it.

        Returns the view of that model, which is the cell's. Raises ModelError or BadParameter for a fault of a transform or its parameters.
        """
        learns = [place for place in range(len(cell.transforms)) if cell.learned_id(place) is not None]
        upto = learns[0] if learns else len(cell.transforms)
        if resizing := [spec.name for spec in cell.transforms[upto:] if registry.lookup("transform", spec.name).resizes]:
            raise BadParameter(
                f"'{cell.transforms[upto].name}' learns of images of the size before '{resizing[0]}', and would be evaluated at another; "
                f"name '{resizing[0]}' before it: {label}+{resizing[0]}(…)+{cell.transforms[upto].name}(…)."
            )
        try:
            made = self.host(model, replace(cell, transforms=cell.transforms[:upto]))
            if learns:
                spec = cell.transforms[upto]
                check_host(spec.name, registry.lookup("transform", spec.name).hosts, made)
            return made.view if made.view.shown is None else cell.view
        except HostRefused as error:
            self.undefined[label, cell.transforms] = str(error)
            return cell.view

    def damaged(self, store: Store | None) -> list[Path]:
        """The files that a run will make again; every file of the plan's cells is read that was not found whole before."""
        if store is None:
            return []
        known, required = dict.fromkeys(cell for cell in self.cells if cell.resolved), self.required_images(store)
        return [path for cell in known for path in (*store.damaged_description(cell.id), *store.damaged(cell.id, required[cell.id]))]

    def required_images(self, store: Store) -> dict[str, ImagesRequired]:
        """Which cells need the images beside their rows, by id.

        Images that were removed are made anew where `--keep adversarial` wants them, or rows of another model that they were crafted
        for are lacking.
        """
        required: dict[str, ImagesRequired] = {}
        of_attacks = ImagesRequired.YES if "adversarial" in self.settings.keep else ImagesRequired.UNLESS_REMOVED
        for cell in (cell for cell in self.cells if cell.resolved):
            required[cell.id] = of_attacks if "adversarial" in self.kept_of(cell) else ImagesRequired.NO
        for part in self.planned:
            for cell in (cell for cell in part.cells if cell.resolved and cell.surrogate is not None and not cell.crafts):
                lost = store.damaged(cell.id)
                if rows([file for file in store.files(cell.id) if file.path not in lost]) < part.samples.asked:
                    assert cell.crafting is not None
                    required[cell.crafting.id] = ImagesRequired.YES
        return required

    def kept_of(self, cell: Cell) -> tuple[str, ...]:
        """What is kept beside the rows of a cell, of settings.KEPT; of one that crafts images for other models these in any case."""
        kept = self.settings.keep
        return (*kept, "adversarial") if cell.crafts and "adversarial" not in kept else kept

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
        return [*mismatches(self.samples), *self.skipped_told]

    @property
    def skipped_told(self) -> list[str]:
        """A sentence for each data set that is not here."""
        return [f"{name} is not here and is left out" for name in self.skipped]

    @property
    def rows(self) -> int:
        """Rows requested in all."""
        return sum(part.samples.asked * len(self.defined(part)) for part in self.planned)


def plugins_of(cell: Cell, plan: Plan) -> dict[str, Any]:
    """What the plug-in parameters of a cell's scenario were resolved to, by parameter name."""
    return nested_of(cell.scenario, plan.plugins)


def shards(requested: int) -> list[tuple[int, int]]:
    """(shard, rows requested of it) for the first `requested` samples in evaluation order."""
    return [(shard, min(SHARD, requested - shard * SHARD)) for shard in range(-(-requested // SHARD))]
