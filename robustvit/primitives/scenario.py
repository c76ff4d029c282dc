"""Scenario, the one protocol of everything that is done to samples: (Classifier, Batch, Draws) → Outcome.

A plug-in is a plain function with the signature that its field expects. What makes a Scenario of it, and what a run must know of its kind,
is in one module of `primitives/scenarios/` for each kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes
from robustvit.spec import registry
from robustvit.spec.plugin import Entry
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec, plain


@dataclass
class Outcome:
    """What a scenario makes of a batch: the images to be predicted (None when there are none) and its own per-sample columns.

    seen: (N,) int8, what the scenario itself saw the model predict of each image: 1 the label, 0 another class, −1 unknown; None: nothing.
    """

    images: Tensor | None
    columns: dict[str, Tensor] = field(default_factory=dict)
    seen: Tensor | None = None


class Scenario(Protocol):
    """(Classifier, Batch, Draws) → Outcome.

    A row of the outcome depends on that row of the batch and its draws alone, but for other libraries' attacks.

    uses_reading: models meet it through the data's first Reading, because it compares predictions with labels. in_float32: its images are
    predicted in float32 whatever the precision of the run. makes_adversarial_images: its images can be kept, and rows tell which attack
    succeeded. predicts: it makes images that the model predicts.
    """

    uses_reading: ClassVar[bool]
    in_float32: ClassVar[bool]
    makes_adversarial_images: ClassVar[bool]
    predicts: ClassVar[bool]

    def __init__(self, entry: Entry, spec: Spec, function: Callable[..., Any], arguments: dict[str, Any]) -> None: ...

    def rows_at_once(self, tile: int, size: tuple[int, int]) -> int:
        """How many rows it is given together: a multiple of the tile, or of the groups that it measures together."""
        ...

    @staticmethod
    def rows_per_task(tile: int, size: tuple[int, int]) -> int:
        """After how many rows its records are written: as often as a killed run may lose, at most a shard."""
        ...

    def passes(self, model: Classifier) -> Passes | None:
        """Passes through the model for one sample, without the prediction of the images that it makes. None: it must be timed."""
        ...

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """The images and columns of the batch."""
        ...


def scenario_kind(entry: Entry) -> type[Scenario]:
    """The class that makes Scenarios of the plug-ins of an entry's kind."""
    module = importlib.import_module(f"robustvit.primitives.scenarios.{entry.kind}")
    return getattr(module, f"{entry.kind.capitalize()}Scenario")  # type: ignore[no-any-return]


def compares_with_labels(entry: Entry) -> bool:
    """Whether a scenario compares predictions with labels, so that it sees models through the data's first Reading."""
    return scenario_kind(entry).uses_reading or entry.reads_labels


def takes_headless(spec: Spec) -> bool:
    """Whether the scenario of a bound Spec, with the attacks nested in it, reads no outputs of the model, so that these may be features."""
    nested = [registry.lookup(value.kind, value.name) for _, value in spec.params if isinstance(value, Spec) and value.kind == "attack"]
    return registry.lookup(spec.kind, spec.name).headless and all(one.label_free for one in nested)


def scenario(
    entry: Entry, spec: Spec, plugins: Mapping[str, Any] | None = None, artifact: Mapping[str, Tensor] | None = None
) -> Scenario:  # fmt: skip
    """The scenario of a bound Spec.

    plugins: what its plug-in parameters were resolved to, by parameter name. artifact: what its `fit` made of other samples, see
    robustvit.evaluation.pipelines.fit.
    """
    function = entry.load()
    if entry.fit:
        function = _with_artifact(function, artifact or {})
    return scenario_kind(entry)(entry, spec, function, parameters(spec, plugins))


def parameters(spec: Spec, plugins: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of a bound Spec's function. plugins: what its plug-in parameters were resolved to."""
    return {key: plain(value) for key, value in spec.params} | dict(plugins or {})


def _with_artifact(function: Callable[..., Any], artifact: Mapping[str, Tensor]) -> Callable[..., Any]:
    """An attack or analysis that was fitted, with the signature of one that needs no fit."""
    return lambda model, images, labels, draws, **arguments: function(model, images, labels, draws, artifact, **arguments)


def group_size(entry: Entry, spec: Spec) -> int:
    """How many samples of a bound Spec are measured together: those of its group in evaluation order; 1 where each is by itself.

    Raises BadParameter for groups that are not within one shard.
    """
    size = spec.get(entry.group, 1) if entry.group else 1
    if not isinstance(size, int) or size < 1 or SHARD % size:
        raise BadParameter(f"{entry.kind} '{entry.name}' got {entry.group}={size}; groups are of a divisor of {SHARD}, such as 16 or 64.")
    return size


def stream(spec: Spec) -> str:
    """The name of a scenario's random stream. Its severities share their draws, so that a curve over severities moves less by chance."""
    return f"{spec.kind}/{spec.name}"


def rows_in(room: int, tile: int, size: tuple[int, int]) -> int:
    """How many rows of float32 images fit into so many bytes, a multiple of the tile and at least one tile."""
    return max(1, room // (3 * 4 * size[0] * size[1]) // tile) * tile
