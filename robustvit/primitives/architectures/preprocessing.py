"""What happens to an image before a model sees it: the normalisation of its channels, and the view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Le
from torch import nn

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card
from robustvit.primitives.shared_weights import owned
from robustvit.spec.view import View

Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Share = Annotated[float, Ge(0.001), Le(1)]  # SMALLEST_SHARE of a view


class Preprocessing(NamedTuple):
    """The normalisation of a model's input, three numbers each, and its view."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: View

    def classifier(self, built: nn.Module, card: Card) -> Classifier:
        """The Classifier that a module from normalised images to logits becomes."""
        return Classifier(owned(built), mean=self.mean, std=self.std, view=self.view, card=card)


def per_channel(given: Sequence[float] | None, default: Sequence[float], count: int = 3) -> tuple[float, ...]:
    """A number for each of `count` channels: those given or the default, where one, or several that are equal, do for all.

    Raises BadParameter for any other number of them.
    """
    values = tuple(float(value) for value in (default if given is None else given))
    alike = values[:1] * count if len(set(values)) == 1 else values
    if len(alike) != count or not all(math.isfinite(value) for value in values):
        raise BadParameter(f"mean and std take a number, or one for each of {count} channels; got {list(values)}.")
    return alike
