"""The randomness of a model itself, keyed by the run's seed and the samples that it is queried with.

A Classifier with randomness of its own overrides `bound(draws)`. Here its draws follow the rows: a sample has the same chance in every
scenario, attack and batch, alone or among others, so that cells of one seed are compared on one model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import constructor_arguments
from robustvit.primitives.draws import Draws

JUDGEMENTS = 10  # new draws under which the predictions of a random model are judged


def chance(draws: Draws) -> Draws:
    """The draws of a model's own randomness for the samples of `draws`, whatever the stream of these."""
    return Draws(draws.seed, "model", draws.ids, draws.device)


def keyed_by(model: Classifier, draws: Draws) -> Classifier:
    """The model with its randomness keyed by the samples of `draws`, to be queried with these rows in this order.

    A deterministic model is itself. Asked about another number of rows, a random one raises ModelError.
    """
    return _bound(model, chance(draws))


def judges(model: Classifier, draws: Draws) -> list[Classifier]:
    """The model under new draws for the samples of `draws`, `JUDGEMENTS` times; none for a deterministic model."""
    fresh = [_bound(model, chance(draws).at(f"judgement {turn}")) for turn in range(JUDGEMENTS)]
    return [one for one in fresh if one is not model]


def bound_rows(model: Classifier, rows: Tensor) -> Classifier:
    """A bound model for some of its rows, which may repeat; a deterministic model is itself. rows: (n,) indices."""
    return model.bound(model.draws[rows]) if isinstance(model, BoundClassifier) else model


class BoundClassifier(Classifier):
    """A random model whose draws are bound to rows: it raises ModelError where it is queried with another number of rows than these.

    `bound` binds the model to other draws.
    """

    context_only = True

    def __init__(self, model: Classifier, bound: Classifier, draws: Draws) -> None:
        super().__init__(**constructor_arguments(bound))
        self.unbound, self.host, self.draws = model, bound, draws
        self.gradient = bound.gradient

    @property
    def outputs(self) -> int:
        """The number of logits."""
        return self.unbound.outputs

    def bound(self, draws: Draws) -> Classifier:
        """The same model bound to other draws."""
        return _bound(self.unbound, draws)

    def module_context(self) -> Any:
        """That of the model."""
        return self.host.module_context()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1], one image for each of its draws → (N, K) logits."""
        if len(images) != len(self.draws):
            raise ModelError(
                f"model '{self.card.label}' has randomness of its own, here keyed by {len(self.draws)} samples, and is queried with "
                f"{len(images)} images: which sample is each of? Query it through rv.Search, `search.query(rows, pixels)`, or "
                "`search.model_of(rows)`."
            )
        logits: Tensor = self.host(images)
        return logits


def _bound(model: Classifier, draws: Draws) -> Classifier:
    origin = model.unbound if isinstance(model, BoundClassifier) else model
    bound = origin.bound(draws)
    return model if bound is origin else BoundClassifier(origin, bound, draws)


def padded(count: int, size: int, device: torch.device) -> Tensor:
    """The rows 0 … count − 1 followed by the first again, up to `size`: whose draws the padding of a batch has."""
    rows = torch.arange(size, device=device)
    return rows.where(rows < count, 0)
