"""Transforms of a model's attention."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around, constructor_arguments
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.attention_temperature import attention_temperature as temperature_context
from robustvit.primitives.patches import CITATION
from robustvit.spec.registry import transform


@transform(
    source="Gu et al. 2022", url="https://arxiv.org/abs/2111.10659", citation=CITATION,
    rules="Choose the temperature on clean images alone, and report clean accuracy beside robust accuracy. Attacks go through it, with "
    "exact gradients.",
    hosts="attention", no_op="temperature=1",
)  # fmt: skip
def attention_temperature(model: Classifier, *, temperature: Annotated[float, Gt(0)]) -> Classifier:
    """Attention temperature at inference, without retraining: softmax(QKᵀ / (T·√d) + bias) in every block.

    temperature: T; 1 changes nothing, above 1 attention is spread wider over the tokens. A bias of relative positions is not divided. A
    head that pools by attention is changed as well. Raises HostRefused for a model without attention, or one that computes it by hand.
    """
    return _AttentionTemperature(model, temperature)


class _AttentionTemperature(Classifier):
    """A classifier whose attention has a temperature during its forward pass; its host and its weights stay as they are."""

    context_only = True

    def __init__(self, host: Classifier, temperature: float) -> None:
        super().__init__(**constructor_arguments(host))
        self.host, self.temperature = host, temperature
        self.gradient = host.gradient

    def with_module(self, module: nn.Module) -> Classifier:
        """The same temperature for its host around another module."""
        return _AttentionTemperature(around(self.host, module), self.temperature)

    @property
    def outputs(self) -> int:
        """The number of logits of its host."""
        return self.host.outputs

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision, of its host too; returns itself."""
        if "host" in self._modules:
            self.host.configure(tile=tile, precision=precision)
        return super().configure(tile=tile, precision=precision)

    def bound(self, draws: Draws) -> Classifier:
        """The same temperature for its host bound to the draws."""
        host = self.host.bound(draws)
        return self if host is self.host else _AttentionTemperature(host, self.temperature)

    @contextlib.contextmanager
    def module_context(self) -> Iterator[None]:
        """Context in which the attention of its module has the temperature."""
        with temperature_context(self.host, self.temperature), self.host.module_context():
            yield

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits."""
        with temperature_context(self.host, self.temperature):
            logits: Tensor = self.host(images)
        return logits
