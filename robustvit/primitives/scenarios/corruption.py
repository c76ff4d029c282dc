"""Corruptions as scenarios: images and draws in, images out, whatever the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustvit.errors import HostRefused, RobustvitError
from robustvit.primitives.attack_search import Crafted
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.passes import Passes
from robustvit.primitives.scenario import Outcome, stream
from robustvit.primitives.scenarios.budget import check_images
from robustvit.spec.plugin import Entry
from robustvit.spec.sample_order import SHARD
from robustvit.spec.spec import Spec


class CorruptionScenario:
    """`(images, draws, *, …) -> images`, or Crafted, of a corruption, checked for shape and range."""

    uses_reading: ClassVar[bool] = False
    in_float32: ClassVar[bool] = False
    makes_adversarial_images: ClassVar[bool] = False
    predicts: ClassVar[bool] = True

    def __init__(self, entry: Entry, spec: Spec, function: Callable[..., Tensor | Crafted], arguments: dict[str, Any]) -> None:
        self.entry, self.spec, self.function = entry, spec, function
        nested = {key: value for key, value in spec.params if isinstance(value, Spec) and value.kind == "corruption"}
        self.arguments = arguments | {key: _with_own_draws(arguments[key], value) for key, value in nested.items()}

    @staticmethod
    def rows_at_once(tile: int, size: tuple[int, int]) -> int:
        """One tile."""
        return tile

    @staticmethod
    def rows_per_task(tile: int, size: tuple[int, int]) -> int:
        """A whole shard."""
        return SHARD

    def passes(self, model: Classifier) -> Passes | None:
        """None: a corruption takes time of its own."""
        return None

    def __call__(self, model: Classifier, batch: Batch, draws: Draws) -> Outcome:
        """The corrupted images, and the columns that `tells` names.

        Raises RobustvitError or PixelRange where the function returns something else, HostRefused for images of other channels than RGB
        where it is not declared to take them (any_channels).
        """
        channels = batch.images.shape[1]
        if channels != 3 and not self.entry.any_channels:
            raise HostRefused(f"corruption '{self.spec.name}' is written for RGB images, and these have {channels} channels.")
        with torch.no_grad():
            returned = self.function(batch.images, draws, **self.arguments)
        made = returned if isinstance(returned, Crafted) else Crafted(returned)
        check_images(made.images, batch, self.spec)
        if set(made.columns) != set(self.entry.tells):
            raise RobustvitError(
                f"corruption '{self.spec.name}' returns the columns {', '.join(made.columns) or 'none'}; it declares "
                f"{', '.join(self.entry.tells) or 'none'} (tells)."
            )
        return Outcome(made.images, made.columns)


def _with_own_draws(function: Callable[..., Tensor], spec: Spec) -> Callable[[Tensor, Draws], Tensor]:
    """A corruption inside another, with the draws that it would have by itself."""
    return lambda images, draws: function(images, Draws(draws.seed, stream(spec), draws.ids, draws.device))
