"""What a run requested: the suite, its models and data, and every cell, under the names that tables show.

One file of a Store holds one manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from robustvit.spec.coercion import LARGEST_SEED

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SuiteFacts:
    """A suite as it was run. data, metrics, scenarios: canonical Specs; code: the names of code in them, which the run was allowed."""

    name: str
    version: int
    title: str = ""
    paper: str = ""
    url: str = ""
    rules: str = ""
    licence: str = ""
    citation: str = ""
    data: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    scenarios: list[Any] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The card of a model.

    macs: multiply-accumulate operations of one image, None where they cannot be counted or were not. outputs: why its outputs are no
    logits, "" where they are, or where nobody looked. pipelines: the costs of an image by the text of the transforms, "" for none: macs,
    parameters, weight_bytes, moved_bytes, peak_bytes, latency in seconds, gradient, as far as they are known.
    """

    weights_kind: str = ""
    fingerprint: str = ""
    identity: str = ""
    tag: str = ""
    source: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    parameters: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    macs: int | None = None
    outputs: str = ""
    pipelines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """A data set as a run opened it.

    base: the data set whose images these are variants of. classes: how many; class_names: their names, where they are few. n: how many
    samples it has; expected: how many the whole set has, where that is known; asked: how many were requested. left_out: what was found
    among the images and not read. identified_by: what its fingerprint covers (None: names and sizes alone, or a version that did not record
    it). filtered: whether its images were chosen because models get them wrong, so that accuracy at chance is no sign of a fault. clips:
    whether its samples are frames of clips (None: written by a version that did not record it). columns: the logits that its first Reading
    takes, None for all.
    """

    label: str
    name: str
    base: str
    classes: int
    n: int
    asked: int
    fingerprint: str = ""
    clips: bool | None = None
    expected: int | None = None
    left_out: str | None = None
    identified_by: str | None = None
    filtered: bool | None = None
    columns: list[int] | None = None
    class_names: list[str] = field(default_factory=list)
    source: str | None = None
    url: str | None = None
    licence: str | None = None
    citation: str | None = None
    rules: str | None = None


@dataclass(frozen=True, kw_only=True)
class RequestedCell:
    """A cell with the names that tables show of it, and how many samples were requested.

    data: where the images are from; base: the data set they are variants of. view: what the images went through; model_view: the model's
    own in that run, which a cell's data or suite may replace. link, links, attack: of a chain of attacks, which link of how many, and what
    it is. surrogate: the model on which an attack's images were crafted, with its transforms; "" where the model was attacked itself.
    undefined: why it has no value whatever is computed.
    """

    cell: str
    weights: str | None
    model: str
    data: str
    base: str
    data_fingerprint: str
    scenario: str
    severity: str
    params: str
    kind: str
    family: str = ""
    transforms: str
    seed: int
    precision: str
    view: str
    model_view: str
    storage: str
    asked: int
    source: str
    link: int = 0
    links: int = 0
    attack: str = ""
    surrogate: str = ""
    undefined: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a run requested.

    models: by label; data: by fingerprint; limit: samples of each cell at most; command: the command line of the same request.

    started, finished: times in ISO 8601, "" while it has not; environment: the id of where it ran.
    """

    id: str
    suite: SuiteFacts
    models: dict[str, ModelFacts]
    data: dict[str, DataFacts]
    cells: list[RequestedCell]
    command: str
    limit: int | float | None = None
    started: str = ""
    finished: str = ""
    environment: str = ""

    @classmethod
    def of_json(cls, page: Mapping[str, Any]) -> Manifest:
        """The manifest that a JSON object holds; keys that this version does not know are passed over.

        Raises TypeError where a key is missing.
        """
        inner = {
            "suite": _known(SuiteFacts, page["suite"]),
            "models": {label: _known(ModelFacts, card) for label, card in page["models"].items()},
            "data": {name: _known(DataFacts, facts) for name, facts in page["data"].items()},
            "cells": [_known(RequestedCell, cell) for cell in page["cells"]],
        }
        return _known(cls, {**page, **inner})

    def as_json(self) -> dict[str, Any]:
        """The JSON object of the file: facts that a data set does not have, no code, and times that have not come, are left out."""
        page = {key: value for key, value in asdict(self).items() if value != "" or key == "command"}
        suite = {key: value for key, value in page["suite"].items() if value or key != "code"}
        cells = [{key: value for key, value in cell.items() if value or key not in ("undefined", "surrogate")} for cell in page["cells"]]
        return page | {"data": {name: without_none(facts) for name, facts in page["data"].items()}, "suite": suite, "cells": cells}


_HINTS: dict[type, dict[str, Any]] = {kind: get_type_hints(kind) for kind in (SuiteFacts, ModelFacts, DataFacts, RequestedCell, Manifest)}


def without_none(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are known."""
    return {key: value for key, value in facts.items() if value is not None}


def _known(kind: type[T], page: Mapping[str, Any]) -> T:
    hints = _HINTS[kind]
    known = {key: value for key, value in page.items() if key in hints}
    for key, value in known.items():
        if not _fits(value, hints[key]):
            raise TypeError(f"{key} is {str(value)[:60]!r}, a {type(value).__name__}")
    return kind(**known)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value of JSON, or one made of it, has the type of a field. Every number of a manifest counts something, from 0.

    Earlier versions ran with seeds beyond int64, which no table can hold.
    """
    if hint is Any:
        return True
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    kind, of = get_origin(hint) or hint, get_args(hint)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED
    if kind is list:
        return isinstance(value, list) and all(_fits(one, of[0]) for one in value)
    return isinstance(value, kind)
