"""One question: model × transforms × data × view × scenario × seed, with its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from robustvit.errors import BadParameter
from robustvit.spec import registry
from robustvit.spec.spec import Spec, Value, digest, show
from robustvit.spec.view import View

_OF_DATA = frozenset(
    {"data", "data_fingerprint", "class_order", "storage", "after", "surrogate"}
)  # what is fitted on other data depends on none


class Surrogate(NamedTuple):
    """The model on which the images of an attack are crafted: its identity, weights, transforms, order of classes and input size.

    stored: `uint8` where the images are rounded to whole levels, as in a file, before another model is evaluated on them; "" where they
    stay as they were crafted. labels: `predicted` where attacks read the surrogate's own predictions of the clean images for labels; ""
    where they read the data's, or none.
    """

    model: Spec
    weights: str
    transforms: tuple[Spec, ...]
    class_order: str
    size: tuple[int, int]
    stored: str = ""
    labels: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The surrogate as plain data; what is empty is left out."""
        fields = {"model": self.model, "weights": self.weights, "transforms": self.transforms, "size": self.size}
        return fields | {key: value for key in ("class_order", "stored", "labels") if (value := getattr(self, key))}


class Link(NamedTuple):
    """A place in a chain of attacks: the chain as the suite named it, and which of how many links."""

    chain: Spec
    place: int
    of: int


@dataclass(frozen=True)
class Cell:
    """One question: everything that changes its number. What only changes the rounding (device, tile, workers) is not here.

    model, weights: identity of the model and fingerprint of its weights; weights is None while they are not at hand. data: name, arguments
    and fingerprint. view: what the model is shown. scenario: bound, with its plug-in's version. storage: a corruption that what another
    corruption made goes through before the model sees it, as if it had been stored in a file. after: the attacks whose survivors this one
    attacks. class_order: the hash of which logit is which class, where names gave another order than the data's. attack_through: `host`
    where an attack follows the gradients of the model before its transforms. surrogate: on which model an attack's images are crafted, for
    every sample, right or wrong; None where an attack is run on the model itself, and on what that classifies correctly. link: its place in
    the chain that a suite named, undefined: why it has no value whatever is computed; labels, no part of the identity.
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
    class_order: str = ""
    attack_through: str = ""
    surrogate: Surrogate | None = None
    link: Link | None = field(default=None, compare=False)
    undefined: str = field(default="", compare=False)

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
        fields = {
            "model": self.model, "weights": self.weights, "transforms": self.transforms, "data": self.data,
            "data_fingerprint": self.data_fingerprint, "view": self.view.as_dict(), "scenario": self.scenario, "seed": self.seed,
            "precision": self.precision,
        }  # fmt: skip
        fields |= {"storage": self.storage} if self.storage is not None else {}
        fields |= {"class_order": self.class_order} if self.class_order else {}
        fields |= {"attack_through": self.attack_through} if self.attack_through else {}
        fields |= {"surrogate": self.surrogate.as_dict()} if self.surrogate is not None else {}
        return fields | ({"after": self.after} if self.after else {})

    @property
    def artifact_id(self) -> str | None:
        """The id of what the scenario fits on other samples first: the hash of everything it depends on. None where it fits nothing."""
        if self.surrogate is not None and not self.crafts:
            return None
        if not registry.scenario_entry(self.scenario.name).fit:
            return None
        return artifact_id(self.as_dict())

    @property
    def learns(self) -> bool:
        """Whether one of its transforms learns of other samples."""
        return any(self.learned_id(place) is not None for place in range(len(self.transforms)))

    def learned_id(self, place: int) -> str | None:
        """The id of what the transform at a place of the pipeline learns of other samples. None where it learns nothing.

        The hash of all that it depends on: the model, the transforms up to it with what they nest, and the seed.
        """
        if not registry.lookup("transform", self.transforms[place].name).fit:
            return None
        return learned_id(self.as_dict(), place)

    @property
    def earlier(self) -> Cell:
        """The cell of the attack before it in a chain, whose robust samples this one attacks."""
        return replace(self, scenario=self.after[-1], after=self.after[:-1])

    @property
    def crafting(self) -> Cell | None:
        """The cell in which the images of this one are crafted, itself where its model is the surrogate; None without one.

        The surrogate sees the images of this cell's view, resized where its own size is another.
        """
        made = self.surrogate
        if made is None:
            return None
        shown = None if made.size == self.view.size else made.size
        return replace(
            self, model=made.model, weights=made.weights, transforms=made.transforms, class_order=made.class_order,
            view=replace(self.view, shown=shown), surrogate=made._replace(stored=""), undefined="",
        )  # fmt: skip

    @property
    def crafts(self) -> bool:
        """Whether it is the cell in which the images of others are crafted."""
        return self.surrogate is not None and self.crafting == self

    @property
    def waits_for(self) -> Cell | None:
        """The cell whose rows it needs: the attack before it in a chain, or the one that crafts its images. None where it needs none."""
        if self.after:
            return self.earlier
        return None if self.crafts else self.crafting

    @property
    def severity(self) -> Value:
        """The value of the parameter that the scenario calls its severity, or None."""
        name = registry.scenario_entry(self.scenario.name).severity
        return self.scenario.at(name) if name else None

    def __str__(self) -> str:
        return f"{self.scenario.name}" + (f" {show(self.severity)}" if self.severity is not None else "")


def artifact_id(question: Mapping[str, Any]) -> str:
    """The id of what the scenario of a canonical cell fitted: the hash of all of the cell but the data that it is evaluated on."""
    labels = question.get("surrogate", {}).get("labels") if isinstance(question.get("surrogate"), Mapping) else ""
    return digest({key: value for key, value in question.items() if key not in _OF_DATA} | ({"labels": labels} if labels else {}))


def crafting_id(question: Mapping[str, Any]) -> str:
    """The id of the cell in which the images of a canonical cell were crafted, its own where they were crafted on its own model."""
    made = question["surrogate"]
    view = {key: value for key, value in question["view"].items() if key != "shown"}
    shown = {} if list(made["size"]) == list(view["size"]) else {"shown": made["size"]}
    own = {key: made[key] for key in ("model", "weights", "transforms")}
    surrogate = {key: value for key, value in made.items() if key != "stored"}
    rest = {key: value for key, value in question.items() if key != "class_order"}
    order = {"class_order": made["class_order"]} if made.get("class_order") else {}
    return digest({**rest, **own, **order, "view": view | shown, "surrogate": surrogate})


def learned_id(question: Mapping[str, Any], place: int) -> str:
    """The id of what the transform at a place of a canonical cell's pipeline learned."""
    return digest({**{key: question[key] for key in ("model", "weights", "seed")}, "transforms": question["transforms"][: place + 1]})
