"""Changes the temperature of a model's attention at inference, without retraining: softmax(QKᵀ / (T·√d) + bias)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.classifier import Classifier, temporarily
from robustvit.primitives.inference.attention_mode import AttentionMode, fused_attention


@contextlib.contextmanager
def attention_temperature(model: Classifier, temperature: float) -> Iterator[None]:
    """Context in which every attention of the model is softmax(QKᵀ / (T·√d) + bias).

    temperature: T > 0; above 1 attention is spread wider. A bias, such as of relative positions, is not divided. Raises ModelError where
    attention is computed by hand, and on leaving the context where no attention was intercepted.
    """
    mode = _TemperatureMode(model, temperature)
    with fused_attention(model), temporarily(model, "arithmetic_tag", lambda tag: f"{tag}; attention temperature {temperature}"), mode:
        yield
    mode.check_intercepted()


class _TemperatureMode(AttentionMode):
    """Divides queries by a temperature."""

    def __init__(self, model: Classifier, temperature: float) -> None:
        super().__init__(model)
        self.temperature = temperature

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """The same attention of divided queries."""
        return functional.scaled_dot_product_attention(query / self.temperature, key, value, *others, **rest)

    def attend_multi_head(self, call: inspect.BoundArguments) -> Any:
        """The same attention with a divided projection of the queries, in which they are linear."""
        arguments, width = call.arguments, call.arguments["embed_dim_to_check"]
        for name in ("in_proj_weight", "in_proj_bias", "q_proj_weight"):
            if arguments.get(name) is not None:
                arguments[name] = torch.cat((arguments[name][:width] / self.temperature, arguments[name][width:]))
        return functional.multi_head_attention_forward(*call.args, **call.kwargs)
