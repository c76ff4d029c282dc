"""Analyses as scenarios: measurements of a model on samples, which are not its predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.passes import Passes, declared_passes
from robustvit.primitives.scenario import Outcome, rows_in
from robustvit.spec.plugin import Entry
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec

_ROOM = 64 << 20  # bytes of images given at once


class AnalysisScenario:
    """`(model, images, labels, draws, *, …) -> columns` of an analysis."""

    uses_reading: ClassVar[bool] = False
    in_float32: ClassVar[bool] = False
    makes_adversarial_images: ClassVar[bool] = False
    predicts: ClassVar[bool] = False

    def __init__(self, entry: Entry, spec: Spec, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.entry, self.spec, self.function, self.arguments = entry, spec, function, arguments

    @staticmethod
    def rows_at_once(tile: int, size: tuple[int, int]) -> int:
        """As many tiles as fit into 64 MiB."""
        return rows_in(_ROOM, tile, size)

    @staticmethod
    def rows_per_task(tile: int, size: tuple[int, int]) -> int:
        """A whole shard."""
        return SHARD

    def passes(self, model: Classifier) -> Passes | None:
        """What the plug-in declares."""
        return declared_passes(self.entry, self.spec, model, self.arguments)

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """The measurements of each sample, and no images."""
        return Outcome(None, dict(self.function(keyed_by(model, draws), batch.images, batch.labels, draws, **self.arguments)))
