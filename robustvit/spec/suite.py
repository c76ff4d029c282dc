"""Suites and the Cells they ask for: the questions that a suite multiplies out to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from robustvit.errors import BadParameter
from robustvit.spec import registry
from robustvit.spec.spec import Spec, Value, digest, parse, show
from robustvit.spec.view import Crop, View


class Link(NamedTuple):
    """A place in a chain of attacks: the chain as the suite named it, and which of how many links."""

    chain: Spec
    place: int
    of: int


@dataclass(frozen=True)
class Cell:
    """One question: everything that changes its number. What only changes the rounding (device, tile, workers) is not here.

    model, weights: identity of the model and fingerprint of its weights; weights is None while they are not at hand. data: name,
    arguments and fingerprint. view: what the model is shown. scenario: bound, with its plug-in's version. storage: a corruption that
    what another corruption made goes through before the model sees it, as if it had been stored in a file. after: the attacks whose survivors
    this one is asked about. link: its place in the chain that a suite named; a label, no part of the question.
    """

    model: Spec
    weights: str | None
    data: Spec
    data_fingerprint: str | None
    view: View
    scenario: Spec
    transforms: tuple[Spec, ...] = ()
    seed: int = 0
    precision: str = "float32"
    storage: Spec | None = None
    after: tuple[Spec, ...] = ()
    link: Link | None = field(default=None, compare=False)

    @cached_property
    def id(self) -> str:
        """The hash of the whole question, which names its Records. Raises BadParameter while a fingerprint is unresolved."""
        if self.weights is None or self.data_fingerprint is None:
            raise BadParameter(f"the cell '{self.scenario}' has no id yet: the fingerprint of its model or data is unresolved.")
        return digest(self.as_dict())

    @property
    def resolved(self) -> bool:
        """Whether both fingerprints are known."""
        return self.weights is not None and self.data_fingerprint is not None

    def as_dict(self) -> dict[str, Any]:
        """The canonical question."""
        told = {
            "model": self.model, "weights": self.weights, "transforms": self.transforms, "data": self.data,
            "data_fingerprint": self.data_fingerprint, "view": self.view.as_dict(), "scenario": self.scenario, "seed": self.seed,
            "precision": self.precision,
        }  # fmt: skip
        told |= {"storage": self.storage} if self.storage is not None else {}
        return told | ({"after": self.after} if self.after else {})

    @property
    def lesson(self) -> str | None:
        """The name of what the scenario learns from other samples before it meets these: everything that it depends on. None where it learns nothing."""
        if not registry.scenario(self.scenario.name).fit:
            return None
        return lesson_of(self.as_dict())

    @property
    def earlier(self) -> Cell:
        """The cell whose survivors this one is asked about."""
        return replace(self, scenario=self.after[-1], after=self.after[:-1])

    @property
    def severity(self) -> Value:
        """The value of the parameter that the scenario calls its severity, or None."""
        name = registry.scenario(self.scenario.name).severity
        return self.scenario.at(name) if name else None

    def __str__(self) -> str:
        return f"{self.scenario.name}" + (f" {show(self.severity)}" if self.severity is not None else "")


def lesson_of(question: Mapping[str, Any]) -> str:
    """The name of what the scenario of a canonical question learned: the hash of all of it but the data that is judged."""
    return digest({key: value for key, value in question.items() if key not in ("data", "data_fingerprint", "storage", "after")})


@dataclass(frozen=True)
class Overrides:
    """Parts of the view that a suite or a user sets; None leaves the model's own.

    crop: `squash` resizes pictures to the model's size whatever their proportions; `center` and `none` as View has them. corrupt_at: the pixels
    at which corruptions act on behalf of larger models, which are shown the outcome enlarged. whole: a view in the place of any model's own, which
    the others bend.
    """

    img_size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    corrupt_at: int | None = None
    crop: Crop | None = None
    whole: View | None = None

    def over(self, other: Overrides) -> Overrides:
        """These, and the other's where these are silent."""
        return Overrides(
            other.img_size if self.img_size is None else self.img_size,
            other.crop_pct if self.crop_pct is None else self.crop_pct,
            other.interpolation if self.interpolation is None else self.interpolation,
            other.corrupt_at if self.corrupt_at is None else self.corrupt_at,
            other.crop if self.crop is None else self.crop,
            other.whole if self.whole is None else self.whole,
        )

    def apply(self, view: View) -> View:
        """The view with these values set. `corrupt_at` is the scenario's affair, see Cell.view."""
        return (self.whole or view).with_overrides(self.img_size, self.crop_pct, self.interpolation, self.crop)


@dataclass(frozen=True)
class Part:
    """Data sets, and the scenarios asked on each of them."""

    data: tuple[Spec, ...]
    scenarios: tuple[Spec, ...]


@dataclass(frozen=True)
class Suite:
    """A named list of questions and the metrics asked of their answers. Everything in it is bound.

    parts: most suites have one. storage: what corrupted pictures go through, see Cell.
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
    fixed_data: bool = False
    paper: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    rules: str = ""
    where: str = field(default="", compare=False)

    @property
    def data(self) -> tuple[Spec, ...]:
        """Every data set, once."""
        return tuple(dict.fromkeys(spec for part in self.parts for spec in part.data))

    @property
    def scenarios(self) -> tuple[Spec, ...]:
        """Every scenario, once."""
        return tuple(dict.fromkeys(spec for part in self.parts for spec in part.scenarios))

    def asked_on(self, data: Spec) -> tuple[Spec, ...]:
        """The scenarios asked on one of its data sets."""
        return tuple(dict.fromkeys(spec for part in self.parts if data in part.data for spec in part.scenarios))

    def cells(self, model: Cell, scenarios: Iterable[Spec]) -> list[Cell]:
        """Every question to one model on one data set. `model`: a Cell that already knows its model, data, view and precision."""
        return [
            self._corrupted(replace(cell, transforms=pipeline, seed=seed))
            for seed in self.seeds
            for pipeline in self.transforms
            for scenario in scenarios
            for cell in _links(model, scenario)
        ]

    def _corrupted(self, cell: Cell) -> Cell:
        """The cell with what the suite says of corruptions. Storage names every cell, so that groups with and without it stay apart."""
        entry = registry.scenario(cell.scenario.name)
        stored = replace(cell, storage=self.storage)
        if entry.kind != "corruption" or not entry.severity or self.view.corrupt_at is None:
            return stored
        return replace(stored, view=cell.view.acted_at(self.view.corrupt_at))

    def with_seed(self, seed: int) -> Suite:
        """The same suite at one seed."""
        return replace(self, seeds=(seed,))


def _links(model: Cell, scenario: Spec) -> Iterable[Cell]:
    """The cells that a scenario stands for: itself, or the links of its chain, each after those before it."""
    if not registry.scenario(scenario.name).chain:
        yield replace(model, scenario=scenario)
        return
    parts = links(scenario)
    for place, part in enumerate(parts):
        yield replace(model, scenario=part, after=parts[:place], link=Link(scenario, place + 1, len(parts)))


def links(chain: Spec) -> tuple[Spec, ...]:
    """The bound attacks that a bound chain names, in their order."""
    nodes = registry.scenario(chain.name).load()(**dict(chain.params))
    return tuple(registry.bind(registry.scenario(spec.name), spec) for node in nodes for spec in parse(node, chain.where))
