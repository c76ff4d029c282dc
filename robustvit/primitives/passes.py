"""How many passes through the model a scenario takes for one sample, as its plug-in declares it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustvit.primitives.classifier import Classifier
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec

GRADIENT = 3.4  # an attack's gradient step in forward passes: forward, backward to the pixels, arithmetic; measured


@dataclass(frozen=True)
class Passes:
    """Passes for one sample. forward: without a gradient; gradients: with an input gradient. fit: gradient passes once for the whole cell.

    at_most: whether a sample may take fewer, because counting stops early or because less than all of another data set is needed. (That an
    attack is done with a sample once it is misclassified goes without saying.)
    """

    forward: float = 0.0
    gradients: float = 0.0
    fit: float = 0.0
    at_most: bool = False

    @property
    def forwards(self) -> float:
        """Passes for one sample in forward passes."""
        return self.forward + GRADIENT * self.gradients


def declared_passes(entry: Entry, spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """What the plug-in of a bound Spec declares in `passes`, None where it declares nothing.

    A tuple names parameters whose product is the number of passes, with gradients but for black-box attacks; those that a Spec lacks count
    once, and `targets` at most once for each wrong class. A text names a function in the plug-in's module, `(spec, model, plugins) ->
    Passes`.
    """
    if not entry.passes:
        return None
    if isinstance(entry.passes, str):
        return entry.load_beside(entry.passes)(spec, model, plugins)  # type: ignore[no-any-return]
    count = product_of(spec, *(name for name in entry.passes if name != "targets"))
    if "targets" in entry.passes:
        count *= min(product_of(spec, "targets"), model.outputs - 1)
    return Passes(forward=count) if entry.family == "black-box" else Passes(gradients=count)


def product_of(spec: Spec, *names: str) -> float:
    """The product of some parameters of a bound Spec; what is no number counts once."""
    values = (spec.get(name, 1) for name in names)
    return math.prod(float(value) if isinstance(value, int | float) else 1.0 for value in values)
