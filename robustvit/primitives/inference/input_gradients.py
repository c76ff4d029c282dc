"""Gradients with respect to pixels, and the reason where a model gives none."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.errors import ModelError


def raw_gradient(value: Tensor, leaf: Tensor, *, retain_graph: bool = False) -> Tensor | None:
    """The gradient of a number with respect to `leaf`; None where there is none.

    Raises ModelError for a model whose activation checkpointing allows no gradient with respect to its input.
    """
    if not value.requires_grad:
        return None
    try:
        return torch.autograd.grad(value, leaf, retain_graph=retain_graph, allow_unused=True)[0]
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise ModelError(
            "the model recomputes activations by torch.utils.checkpoint with use_reentrant=True, which gives no gradients with respect to "
            "pixels. Set use_reentrant=False, or turn activation checkpointing off: it saves memory in training and changes no logit."
        ) from error
