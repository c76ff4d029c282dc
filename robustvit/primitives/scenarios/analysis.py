"""Analyses as scenarios: measurements of a model on samples, or on groups of samples, which are not its predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustvit.errors import RobustvitError
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.passes import Passes, declared_passes
from robustvit.primitives.scenario import Outcome, group_size, rows_in
from robustvit.spec.plugin import Entry
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec

_ROOM = 64 << 20  # bytes of images given at once


class AnalysisScenario:
    """`(model, images, labels, draws, *, …) -> columns` of an analysis.

    One that declares `group` is given whole groups of so many samples, one or several, and returns columns with a row for each group, which
    all samples of the group share. The last group of a data set may be incomplete: it is filled up with its own samples, and has no value.
    """

    uses_reading: ClassVar[bool] = False
    in_float32: ClassVar[bool] = False
    makes_adversarial_images: ClassVar[bool] = False
    predicts: ClassVar[bool] = False

    def __init__(self, entry: Entry, spec: Spec, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.entry, self.spec, self.function, self.arguments = entry, spec, function, arguments
        self.group = group_size(entry, spec)

    def rows_at_once(self, tile: int, size: tuple[int, int]) -> int:
        """As many tiles as fit into 64 MiB; of groups, whose features are in memory together, the fewest that fill a tile."""
        return rows_in(_ROOM, tile, size) if self.group == 1 else -(-tile // self.group) * self.group

    @staticmethod
    def rows_per_task(tile: int, size: tuple[int, int]) -> int:
        """A whole shard."""
        return SHARD

    def passes(self, model: Classifier) -> Passes | None:
        """What the plug-in declares."""
        return declared_passes(self.entry, self.spec, model, self.arguments)

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """The measurements of each sample, and no images."""
        if self.group > 1:
            return Outcome(None, self._of_groups(model, batch, draws))
        return Outcome(None, self._columns(model, batch, draws))

    def _columns(self, model: Classifier, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        return dict(self.function(keyed_by(model, draws), batch.images, batch.labels, draws, **self.arguments))

    def _of_groups(self, model: Classifier, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The measurements of each sample's group, NaN for a last group that is incomplete."""
        whole, rest = divmod(len(batch), self.group)
        if rest:
            last = len(batch) - rest + torch.arange(self.group) % rest
            rows = torch.cat((torch.arange(len(batch) - rest), last))
            batch, draws = batch[rows.to(batch.labels.device)], draws[rows]
        found = self._columns(model, batch, draws)
        for name, values in found.items():
            if len(values) != len(batch) // self.group:
                raise RobustvitError(
                    f"analysis '{self.entry.name}' must return a row for each group of {self.group} samples: {len(batch) // self.group} in "
                    f"column '{name}'; it returned {len(values)}."
                )
        rows = torch.arange(whole * self.group + rest) // self.group
        return {name: _without(values, whole)[rows.to(values.device)] for name, values in found.items()}


def _without(values: Tensor, whole: int) -> Tensor:
    """The values of whole groups, NaN after these."""
    return torch.cat((values[:whole], torch.full_like(values[whole:], torch.nan)))
