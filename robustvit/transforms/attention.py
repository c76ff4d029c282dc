"""Transforms of what a model attends to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention import softened
from robustvit.primitives.patches import CITATION
from robustvit.spec.registry import transform


@transform(
    source="Gu et al. 2022", url="https://arxiv.org/abs/2111.10659", citation=CITATION,
    rules="Choose the temperature on clean images alone, and report clean accuracy beside what attacks leave. Attacks go through it, with exact gradients.",
)  # fmt: skip
def attention_temperature(model: Classifier, *, temperature: Annotated[float, Gt(0)]) -> Classifier:
    """Softer attention at inference: softmax(QKᵀ / (T·√d) + bias) in every block, without retraining.

    temperature: T; 1 changes nothing, above 1 attention is spread wider over the tokens. A bias of relative positions is not divided. A head that pools by
    attention is softened as well. Raises ModelError for a model without attention, or one that computes it by hand.
    """
    made = _Softened(model, temperature)
    with torch.no_grad():
        made(torch.zeros(1, 3, *model.size, device=model.device))
    return made


class _Softened(Classifier):
    """A classifier whose attention is softened while it answers; its host and its weights are untouched."""

    def __init__(self, host: Classifier, temperature: float) -> None:
        mean, std = _channels(host.mean), _channels(host.std)
        super().__init__(host.model, mean=mean, std=std, view=host.view, card=host.card, tile=host.tile, precision=host.precision)
        self.host, self.temperature = host, temperature
        self.gradient = host.gradient

    @property
    def outputs(self) -> int:
        """As many logits as its host gives."""
        return self.host.outputs

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision, of its host too; returns itself."""
        if "host" in self._modules:
            self.host.configure(tile=tile, precision=precision)
        return super().configure(tile=tile, precision=precision)

    def bound(self, draws: Draws) -> Classifier:
        """Its host bound to the draws, softened likewise."""
        return _Softened(self.host.bound(draws), self.temperature)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """For the length of a block its module's attention is softened."""
        with softened(self.host, self.temperature), self.host.computing():
            yield

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits."""
        with softened(self.host, self.temperature):
            logits: Tensor = self.host(images)
        return logits


def _channels(buffer: Any) -> tuple[float, ...]:
    return tuple(buffer.flatten().tolist())
