"""Suites, and the Cells that a suite multiplies out to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell, Link, Surrogate
from robustvit.spec.code_names import code_names
from robustvit.spec.spec import Spec, parse
from robustvit.spec.view import Overrides
from robustvit.spec.written.facts_table import facts_table

OWN, HOST = "own", "host"
THROUGH = (OWN, HOST)
"""Whose gradients attacks on a transformed model follow: its own, or those of the model before its transforms (BPDA)."""
MODELS, GIVEN = "models", "given"
"""Surrogates by a word: every model of the run, or those that the run is given (--surrogate)."""
OF_DATA, PREDICTED = "data", "predicted"
"""The labels that attacks read on surrogates: the data's, or what the surrogate itself predicts of the clean images."""
STORED = ("float32", "uint8")
"""What crafted images are stored as before a model is evaluated on them: as they are, or rounded to whole levels."""
_NOT_ITS_OWN = ("black-box", "surrogate")  # families of attacks that follow no gradient of the attacked model


@dataclass(frozen=True)
class Part:
    """Data sets, and the scenarios evaluated on each of them."""

    data: tuple[Spec, ...]
    scenarios: tuple[Spec, ...]


@dataclass(frozen=True)
class Suite:
    """A named list of scenarios on data sets, and the metrics computed from their Records. Everything in it is bound.

    parts: most suites have one. storage: what corrupted images are stored as, see Cell. attack_through: whose gradients attacks on a model
    with transforms follow, of THROUGH. surrogates: the models on which the images of its attacks are crafted, once, for every sample, and
    evaluated on every model: addresses, or MODELS or GIVEN; none for a suite whose attacks are run on each model itself. stored_as: as
    what they are stored in between, of STORED. surrogate_labels: the labels that attacks read there, OF_DATA or PREDICTED. places: where
    the files of data sets are that its file names with a place.
    """

    name: str
    title: str
    version: int
    parts: tuple[Part, ...]
    metrics: tuple[Spec, ...]
    transforms: tuple[tuple[Spec, ...], ...] = ((),)
    seeds: tuple[int, ...] = (0,)
    view: Overrides = field(default_factory=Overrides)
    limit: int | None = None
    storage: Spec | None = None
    attack_through: tuple[str, ...] = (OWN,)
    surrogates: tuple[str, ...] = ()
    stored_as: tuple[str, ...] = ("float32",)
    surrogate_labels: str = OF_DATA
    fixed_data: bool = False
    paper: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    rules: str = ""
    where: str = field(default="", compare=False)
    places: Mapping[Spec, Path] = field(default_factory=dict, compare=False)

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        lists = {name: ", ".join(map(str, getattr(self, name))) for name in ("data", "scenarios", "metrics")}
        transforms = ", ".join(
            " → ".join(map(str, pipeline)) or "none" for pipeline in self.transforms if len(self.transforms) > 1 or pipeline
        )
        return facts_table(
            f"{self.name}: {self.title}",
            {
                **lists,
                "transforms": transforms,
                "limit": self.limit or "",
                "rules": self.rules,
                "paper": self.paper,
                "url": self.url,
                "licence": self.licence,
            },
        )

    @property
    def data(self) -> tuple[Spec, ...]:
        """Every data set, once."""
        return tuple(dict.fromkeys(spec for part in self.parts for spec in part.data))

    @property
    def scenarios(self) -> tuple[Spec, ...]:
        """Every scenario, once."""
        return tuple(dict.fromkeys(spec for part in self.parts for spec in part.scenarios))

    @property
    def code(self) -> tuple[str, ...]:
        """The names of code of the user's own in it, each once."""
        storage = () if self.storage is None else (self.storage,)
        return tuple(dict.fromkeys(code_names((*self.data, *self.scenarios, *self.metrics, *self.transforms, *storage))))

    def scenarios_on(self, data: Spec) -> tuple[Spec, ...]:
        """The scenarios evaluated on one of its data sets."""
        return tuple(dict.fromkeys(spec for part in self.parts if data in part.data for spec in part.scenarios))

    def cells(self, model: Cell, scenarios: Iterable[Spec], surrogates: Sequence[Surrogate] = ()) -> list[Cell]:
        """Every cell of one model on one data set. `model`: a Cell that already knows its model, data, view and precision.

        surrogates: those of the suite, resolved, on which the images of its attacks are crafted.
        """
        return [
            self._corrupted(replace(cell, transforms=pipeline, seed=seed))
            for seed in self.seeds
            for pipeline in self.transforms
            for scenario in scenarios
            for cell in self._of_scenario(model, scenario, pipeline, surrogates)
        ]

    def _of_scenario(self, model: Cell, scenario: Spec, pipeline: tuple[Spec, ...], surrogates: Sequence[Surrogate]) -> Iterable[Cell]:
        if self.surrogates and crafted(scenario):
            predicted = self.surrogate_labels == PREDICTED and not registry.scenario_entry(scenario.name).label_free
            labels = PREDICTED if predicted else ""
            return [
                replace(model, scenario=scenario, surrogate=one._replace(stored="" if stored == STORED[0] else stored, labels=labels))
                for one in surrogates
                for stored in self.stored_as
            ]
        return [cell for through in self._through(scenario, pipeline) for cell in _links(replace(model, attack_through=through), scenario)]

    def _through(self, scenario: Spec, pipeline: tuple[Spec, ...]) -> list[str]:
        """What the cells of a scenario say of whose gradients are followed: nothing where the model's own are."""
        entry = registry.scenario_entry(scenario.name)
        if not pipeline or entry.kind != "attack" or entry.family in _NOT_ITS_OWN:
            return [""]
        return [HOST if one == HOST else "" for one in self.attack_through]

    def _corrupted(self, cell: Cell) -> Cell:
        """The cell with the suite's settings for corruptions.

        Storage is part of every cell, so that averages never mix cells with and without it.
        """
        entry = registry.scenario_entry(cell.scenario.name)
        stored = replace(cell, storage=self.storage)
        if not entry.stored or self.view.corrupt_at is None:
            return stored
        return replace(stored, view=cell.view.with_scenario_size(self.view.corrupt_at))

    def with_seed(self, seed: int) -> Suite:
        """The same suite at one seed."""
        return replace(self, seeds=(seed,))


def crafted(scenario: Spec) -> bool:
    """Whether the images of a scenario are crafted on surrogates where a suite names some: an attack that is not one already."""
    entry = registry.scenario_entry(scenario.name)
    return entry.kind == "attack" and entry.family != "surrogate"


def _links(model: Cell, scenario: Spec) -> Iterable[Cell]:
    """The cells that a scenario stands for: itself, or the links of its chain, each after those before it."""
    if not registry.scenario_entry(scenario.name).chain:
        yield replace(model, scenario=scenario)
        return
    parts = links(scenario)
    for place, part in enumerate(parts):
        yield replace(model, scenario=part, after=parts[:place], link=Link(scenario, place + 1, len(parts)))


def links(chain: Spec) -> tuple[Spec, ...]:
    """The bound attacks that a bound chain names, in their order."""
    nodes = registry.scenario_entry(chain.name).load()(**dict(chain.params))
    return tuple(bind(registry.scenario_entry(spec.name), spec) for node in nodes for spec in parse(node, chain.where))
