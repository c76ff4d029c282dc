"""The attention maps of a model that is trained, with gradients to its weights."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.inference.attention_maps import AttentionMaps
from robustvit.primitives.inference.attention_mode import AttentionMode, fused_attention


def trained_attention(model: nn.Module, images: Tensor) -> AttentionMaps:
    """Logits, and the attention map of each block in order, (N, heads, T, T), after the softmax and before dropout; rows are queries.

    model: from images (N, 3, H, W) in [0, 1] to logits. One forward pass, in the mode that the model is in. Attention of few queries to all
    tokens, as in a pooling head, belongs to no block. Raises ModelError where attention is within windows, or computed by hand.
    """
    mode = _MapsMode(model, len(images))
    with fused_attention(model), mode:
        logits = model(images)
    mode.check_intercepted()
    return AttentionMaps(logits, mode.maps)


class _MapsMode(AttentionMode):
    """Computes the map of every block beside its attention. rows: images of the batch."""

    def __init__(self, model: nn.Module, rows: int) -> None:
        super().__init__(model)
        self.rows, self.maps = rows, list[Tensor]()

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **rest: Any
    ) -> Tensor:  # fmt: skip
        """The attention as called, beside its map."""
        if query.shape[-2] == key.shape[-2]:
            self._keep(_map(query, key, attn_mask, **rest))
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, **rest)

    def attend_multi_head(self, call: inspect.BoundArguments) -> Any:
        """The attention as called; its map is the weights that the function itself can return."""
        wanted = call.arguments.get("need_weights", True), call.arguments.get("average_attn_weights", True)
        call.arguments |= {"need_weights": True, "average_attn_weights": False}
        output, weights = functional.multi_head_attention_forward(*call.args, **call.kwargs)
        assert weights is not None  # need_weights is set
        if weights.shape[-2] == weights.shape[-1]:
            self._keep(weights)
        return output, (weights.mean(dim=1) if wanted[1] else weights) if wanted[0] else None

    def _keep(self, found: Tensor) -> None:
        if found.dim() != 4 or len(found) != self.rows:
            raise ModelError(f"model '{self.label}' attends within windows or parts of an image, and not between all of its tokens.")
        self.maps.append(found)


def _map(query: Tensor, key: Tensor, mask: Tensor | None, **rest: Any) -> Tensor:
    """The attention of values that are the rows of the identity matrix."""
    identity = torch.eye(key.shape[-2], dtype=query.dtype, device=query.device).expand(*key.shape[:-1], key.shape[-2])
    return functional.scaled_dot_product_attention(query, key, identity, attn_mask=mask, **rest)
