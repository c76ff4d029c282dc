"""Certificates as scenarios: votes over masked or noisy images, counted in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from robustvit.errors import BadParameter, RobustvitError, with_article
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import keyed_by
from robustvit.primitives.passes import Passes, declared_passes
from robustvit.primitives.scenario import Outcome, rows_in
from robustvit.primitives.votes import Votes, check_votes, vote_columns
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec

_ROOM = (
    32 << 20
)  # bytes of images whose masked views are batched together: enough to fill batches, few enough that a killed run loses little


class CertificateScenario:
    """`(model, images, draws, *, …) -> Votes` of a certificate, with the labels' votes added."""

    uses_reading: ClassVar[bool] = True
    in_float32: ClassVar[bool] = False
    makes_adversarial_images: ClassVar[bool] = False
    predicts: ClassVar[bool] = False

    def __init__(self, entry: Entry, spec: Spec, function: Callable[..., Votes], arguments: dict[str, Any]) -> None:
        self.entry, self.spec, self.function, self.arguments = entry, spec, function, arguments

    @staticmethod
    def rows_at_once(tile: int, size: tuple[int, int]) -> int:
        """As many tiles as fit into 32 MiB."""
        return rows_in(_ROOM, tile, size)

    rows_per_task = rows_at_once

    def passes(self, model: Classifier) -> Passes | None:
        """What the plug-in declares."""
        return declared_passes(self.entry, self.spec, model, self.arguments)

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """The votes as columns.

        Raises BadParameter below float32, where one vote in fifty was seen to change; RobustvitError for odd votes.
        """
        if model.precision != "float32":
            raise BadParameter(
                f"certificate '{self.spec.name}': precision is {model.precision}, which flips votes; a certificate is made in float32. "
                "Leave --precision out."
            )
        votes = self.function(keyed_by(model, draws), batch.images.clone(), draws, **self.arguments)
        if not isinstance(votes, Votes):
            raise RobustvitError(f"certificate '{self.spec.name}' must return rv.Votes; it returned {with_article(type(votes).__name__)}.")
        check_votes(votes, (len(batch), model.outputs), self.spec.name)
        return Outcome(None, vote_columns(votes, batch.labels))
