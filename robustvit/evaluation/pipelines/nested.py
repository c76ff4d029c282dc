"""Nested plug-ins of scenarios and transforms: loaded, and named in cells by what identifies them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from robustvit.errors import BadParameter
from robustvit.evaluation.class_names import Logits, checked_order, nested_order
from robustvit.evaluation.datasets import place_of, refuse_ambiguous_order
from robustvit.evaluation.images.kept_images import load_kept
from robustvit.evaluation.loading import load_data, load_model, resolve
from robustvit.evaluation.pipelines.heads import head_of
from robustvit.evaluation.settings import Settings
from robustvit.primitives.batch import Data, traits
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.modules.patch_unit import patch_unit
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.cell import Cell
from robustvit.spec.data_address import parse_data
from robustvit.spec.spec import Spec, Value
from robustvit.spec.suite import GIVEN, Suite
from robustvit.spec.view import View
from robustvit.spec.written.relative import absolute, made_absolute

HOST = "host"  # the address of the evaluated model before its transforms
EVALUATED = "evaluated"  # the name of the data that a run evaluates on


class Place(NamedTuple):
    """Where nested plug-ins are loaded for: a model without its transforms, the settings, and the suite and first data of a run.

    head: what the model's logits are after transforms that replace its head, None where they are its own.
    """

    model: Classifier
    settings: Settings
    suite: Suite | None = None
    data: str | Spec | None = None
    head: Logits | None = None


def in_numbers(spec: Spec, model: Classifier | None, size: tuple[int, int]) -> Spec:
    """A bound Spec whose relative values (`1 patch`) are numbers, for images of a size. model: None for patches of a 14th of the side."""

    def number(text: str) -> int:
        side = min(size)
        patch = patch_unit(nn.Identity() if model is None else model.model, side)
        return absolute(text, side, patch, (size[0] // patch) * (size[1] // patch))

    return made_absolute(spec, number)


def resolved_pipeline(transforms: Sequence[Spec], place: Place, found: dict[Spec, Any]) -> tuple[Spec, ...]:
    """Each bound transform as `resolved_transform` gives it, after those before it."""
    made: tuple[Spec, ...] = ()
    for spec in transforms:
        made += (resolved_transform(spec, place._replace(head=head_of(made, found, place.head)), found),)
    return made


def resolved_scenario(
    spec: Spec, place: Place, data: Data, found: dict[Spec, Any], *, reads: bool = True, size: tuple[int, int] | None = None
) -> Spec:  # fmt: skip
    """The bound scenario with every nested plug-in replaced by its identity; what it is goes into `found` under that.

    size: of the images, where it is not the model's own. data: what the scenario is evaluated on, by whose classes a nested model is read.
    reads: whether the model can be read so, too.
    """

    def by_classes(plugin: Any) -> Mapping[str, Value]:
        return _by_classes(nested_order(plugin, place.model, data, place.head)) if reads else {}

    return _resolved(in_numbers(spec, place.model, size or place.model.size), place, found, by_classes)


def resolved_transform(spec: Spec, place: Place, found: dict[Spec, Any]) -> Spec:
    """The bound transform with every nested plug-in replaced by its identity; what it is goes into `found` under that.

    A nested data set is named with the view through which the model sees it, on which what is learned of it depends.
    """
    labelled = registry.lookup("transform", spec.name).head  # by the data's own labels, whatever the model's logits are

    def seen(plugin: Any) -> Mapping[str, Value]:
        return {} if not isinstance(plugin, Data) else _as_seen(plugin, place, not labelled)

    return _resolved(in_numbers(spec, place.model, place.model.size), place, found, seen)


def nested_of(spec: Spec, found: Mapping[Spec, Any]) -> dict[str, Any]:
    """What the plug-in parameters of a resolved Spec are, by parameter name."""
    return {key: found[value] for key, value in spec.params if isinstance(value, Spec) and value in found}


def loaded_plugins(
    spec: Spec, given: Mapping[str, Any] | None = None, *, device: torch.device | str = "cpu", data_dir: Path | None = None
) -> dict[str, Any]:  # fmt: skip
    """What the plug-in parameters of a bound Spec are, by name: as given, or loaded by their address, where no run names cells by them.

    Raises BadParameter for a data set the order of whose classes is ambiguous.
    """

    def data(address: Spec) -> Data:
        found = load_data(address, data_dir=data_dir)
        refuse_ambiguous_order(found)
        return found

    load: dict[str, Callable[[Spec], Any]] = {
        "model": lambda address: load_model(address if address.params else address.name, device=device),
        "data": data, "kept": lambda address: load_kept(address.name),
    }  # fmt: skip
    kinds = {param.name: param.hint.plugin for param in registry.lookup(spec.kind, spec.name).params if param.hint.plugin}
    own = dict(given or {})
    named = [(key, value) for key, value in spec.params if key in kinds and key not in own and isinstance(value, Spec)]
    return own | {key: load.get(kinds[key], resolve)(value) for key, value in named}


def view_of(model: Classifier, data: Data) -> View:
    """The view through which a model sees a nested data set."""
    cut = traits(data).cut
    return model.view if cut is None else model.view.for_precropped(cut)


def _resolved(spec: Spec, place: Place, found: dict[Spec, Any], more: Callable[[Any], Mapping[str, Value]]) -> Spec:
    changed: dict[str, Value] = {}
    for param in registry.lookup(spec.kind, spec.name).params:
        value = spec.get(param.name)
        if param.hint.plugin and isinstance(value, Spec):
            identity, plugin = _loaded(param.hint.plugin, value, place)
            identity = identity.with_params(**more(plugin))
            found[identity] = plugin
            changed[param.name] = identity
    return spec.with_params(**changed) if changed else spec


def _by_classes(order: str) -> Mapping[str, Value]:
    return {"class_order": order} if order else {}


def _as_seen(data: Data, place: Place, by_logits: bool) -> Mapping[str, Value]:
    order = checked_order(place.model, data, place.head) if by_logits else ""
    return {**_by_classes(order), "view": str(view_of(place.model, data))}


def _loaded(kind: str, value: Spec, place: Place) -> tuple[Spec, Any]:
    """The identity of a nested plug-in, by which cells name it, and what it is."""
    if kind == "model":
        model = _model(value, place)
        identity = model.card.identity.with_params(fingerprint=model.card.fingerprint)
        return identity.with_params(transforms=model.card.transforms) if model.card.transforms else identity, model
    if kind == "data":
        value, data = _data(value, place)
        refuse_ambiguous_order(data)
        return value.with_params(fingerprint=data.fingerprint), data
    if kind == "kept":
        kept = load_kept(value.name)
        return kept.identity, kept
    return value, resolve(value)


def _data(value: Spec, place: Place) -> tuple[Spec, Data]:
    """A nested data set, and its bound Spec: the evaluated one's where it names that."""
    folder = place.settings.data_dir
    if value.name != EVALUATED:
        return value, load_data(value, data_dir=folder if place.suite is None else place_of(place.suite, value, folder))
    given: dict[str, Any] = {key: one for key, one in value.params if one is not None}
    if place.data is None:
        raise BadParameter(
            f"'{value.name}' names the data of a run by its address, and there is none here. Name a data set, such as digits?split=train."
        )
    spec = place.data if isinstance(place.data, Spec) else parse_data(place.data)[0]
    found = load_data(place.data, data_dir=folder, **given)
    return bind(registry.lookup("data", spec.name), spec.with_params(**given)), found


def _model(value: Spec, place: Place) -> Classifier:
    if value.name == HOST:
        return place.model
    address = value if value.params else value.name  # a bare name may be any address: `package.module:factory`, `demo`
    return load_model(address, device=place.settings.device, tile=rows if isinstance(rows := place.settings.batch_size, int) else None)


def why_own_host(spec: Spec, label: str) -> str:
    """Why a bound scenario has no value on a model without transforms: it names that model's host. "" where it does not."""
    named = any(isinstance(value, Spec) and value.name == HOST for _, value in spec.params)
    return f"'{spec.name}' names the host of '{label}', which has no transforms: it is its own host" if named else ""


def with_given(cells: Iterable[Cell], surrogates: Sequence[Any]) -> Iterator[Cell]:
    """The cells, those whose scenario nests the surrogate that a run names once for each of these.

    Where it names none that is the model before its transforms; of a model without transforms nothing is asked.
    """
    for cell in cells:
        if not names_given(cell.scenario):
            yield cell
            continue
        for name in surrogates or ((HOST,) if cell.transforms else ()):
            named = {key: Spec(str(name)) for key, value in cell.scenario.params if isinstance(value, Spec) and value.name == GIVEN}
            yield replace(cell, scenario=cell.scenario.with_params(**named))


def names_given(scenario: Spec) -> bool:
    """Whether a scenario nests the surrogate that a run names."""
    return any(isinstance(value, Spec) and value.name == GIVEN for _, value in scenario.params)
