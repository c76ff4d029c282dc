"""Attacks of other libraries on the linear model."""

from __future__ import annotations

from typing import NamedTuple

from exact import images, linear
from torch import Tensor

from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import size
from robustvit.primitives.scenario import Outcome, scenario, stream
from robustvit.spec import registry
from robustvit.spec.spec import parse

DUAL = {"linf": lambda w: w.abs().sum(), "l2": lambda w: w.norm(), "l1": lambda w: w.abs().max()}


class Met(NamedTuple):
    """What an attack met and what it made of it. needed: how large a perturbation each sample takes to fall, in the attack's norm."""

    model: Classifier
    batch: Batch
    outcome: Outcome
    needed: Tensor

    @property
    def fallen(self) -> Tensor:
        assert self.outcome.images is not None
        fallen: Tensor = self.model(self.outcome.images).argmax(dim=1) != self.batch.labels
        return fallen

    @property
    def sizes(self) -> dict[str, Tensor]:
        assert self.outcome.images is not None
        return {norm: size(self.outcome.images - self.batch.images, norm) for norm in ("linf", "l2", "l1")}  # type: ignore[arg-type]


def met(name: str, norm: str = "linf", /, *, share: float | None = 0.5, count: int = 12, seed: int = 0, **params: object) -> Met:
    """An attack at a radius that fells about a share of the samples at best; without a share it is given none."""
    model, weight = linear()
    pixels = images(count)
    logits = model(pixels)
    needed = (logits[:, 1] - logits[:, 0]).abs() / DUAL[norm](weight)
    radius = {} if share is None else {"eps": float(needed.quantile(share))}
    entry = registry.scenario(name)
    spec = registry.bind(entry, parse({name: {**radius, **params}})[0])
    batch = Batch(pixels, logits.argmax(dim=1), tuple(str(i) for i in range(count)))
    return Met(model, batch, scenario(entry, spec)(model, batch, Draws(seed, stream(spec), batch.ids)), needed)


def made(name: str, seed: int, **params: object) -> Tensor:
    """The images that an attack makes at a seed."""
    images = met(name, seed=seed, **params).outcome.images
    assert images is not None
    return images
