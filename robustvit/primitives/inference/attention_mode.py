"""Intercepts the attention of a model while it computes, without rewriting the model.

A torch function mode receives every call of `scaled_dot_product_attention` (timm's fused attention, "sdpa" of Hugging Face) and of
`torch.nn.MultiheadAttention`. Modules of timm that were built unfused are set to fused meanwhile. Attention that a model computes by hand
cannot be intercepted, and raises ModelError rather than being passed over.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier

_SOFTMAX = (torch.softmax, Tensor.softmax, functional.softmax, torch.special.softmax)


class AttentionMode(TorchFunctionMode):
    """Base of the modes that intercept a model's attention: subclasses override `attend` and `attend_multi_head`.

    Inside these two the mode itself is off, and modes around it are on.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.label = model.card.label if isinstance(model, Classifier) else type(getattr(model, "model", model)).__name__
        self.intercepted = False

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.intercepted = True
            return self.attend(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            self.intercepted = True
            return self.attend_multi_head(inspect.signature(func).bind(*args, **kwargs))
        if func in _SOFTMAX and _attention_scores(*args, **kwargs):
            raise ModelError(
                f"model '{self.label}' computes attention by hand (a softmax over {_attention_scores(*args, **kwargs)} scores), where it "
                "cannot be intercepted: only torch's scaled_dot_product_attention and MultiheadAttention can, which most ViTs of timm use, "
                'and those of Hugging Face with attn_implementation="sdpa".'
            )
        return func(*args, **kwargs)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        """Returned in place of `scaled_dot_product_attention`."""
        raise NotImplementedError

    def attend_multi_head(self, call: inspect.BoundArguments) -> Any:
        """Returned in place of `multi_head_attention_forward`."""
        raise NotImplementedError

    def check_intercepted(self) -> None:
        """Raises ModelError where a forward pass was made and no attention was intercepted."""
        if not self.intercepted:
            raise ModelError(
                f"model '{self.label}' has no attention that can be intercepted: it is no vision transformer, or does not call torch's "
                "attention."
            )


@contextlib.contextmanager
def fused_attention(model: nn.Module) -> Iterator[None]:
    """Context in which timm's attention modules call torch's fused attention, which a mode can intercept."""
    unfused: list[Any] = [module for module in model.modules() if getattr(module, "fused_attn", None) is False]
    for module in unfused:
        module.fused_attn = True
    try:
        yield
    finally:
        for module in unfused:
            module.fused_attn = False


def _attention_scores(input: Tensor, dim: int | None = None, *others: Any, **rest: Any) -> str:
    """The shape of a softmax's input where it may be attention, that is over the last of three or more dimensions; otherwise ""."""
    last = dim in (-1, input.dim() - 1)
    return "x".join(map(str, input.shape)) if last and input.dim() >= 3 else ""
