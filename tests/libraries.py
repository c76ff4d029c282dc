"""Attacks of other libraries on the linear model."""

from __future__ import annotations

from typing import NamedTuple

import exact
from torch import Tensor

from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import size
from robustvit.primitives.scenario import Outcome, scenario, stream
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.spec import parse


class Attacked(NamedTuple):
    """An attack's model, batch and outcome. needed: the smallest perturbation that fools the model on each sample, in the attack's norm."""

    model: Classifier
    batch: Batch
    outcome: Outcome
    needed: Tensor

    @property
    def fooled(self) -> Tensor:
        assert self.outcome.images is not None
        fooled: Tensor = self.model(self.outcome.images).argmax(dim=1) != self.batch.labels
        return fooled

    @property
    def sizes(self) -> dict[str, Tensor]:
        assert self.outcome.images is not None
        return {norm: size(self.outcome.images - self.batch.images, norm) for norm in ("linf", "l2", "l1")}  # type: ignore[arg-type]


def attacked(name: str, norm: str = "linf", /, *, share: float | None = 0.5, count: int = 12, seed: int = 0, **params: object) -> Attacked:
    """An attack at a radius that suffices for about a share of the samples; without a share it is given no radius."""
    model, weight = exact.linear()
    pixels = exact.images(count)
    logits = model(pixels)
    needed = exact.needed(logits, weight, norm)
    radius = {} if share is None else {"eps": float(needed.quantile(share))}
    entry = registry.scenario_entry(name)
    spec = bind(entry, parse({name: {**radius, **params}})[0])
    batch = Batch(pixels, logits.argmax(dim=1), tuple(str(i) for i in range(count)))
    return Attacked(model, batch, scenario(entry, spec)(model, batch, Draws(seed, stream(spec), batch.ids)), needed)


def adversarial(name: str, seed: int, **params: object) -> Tensor:
    """The images that an attack returns at a seed."""
    images = attacked(name, seed=seed, **params).outcome.images
    assert images is not None
    return images
