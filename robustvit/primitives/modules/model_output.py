"""What a module returns, as the logits of classes."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.errors import ModelError, with_article


def checked_logits(output: object, rows: int, label: str) -> Tensor:
    """(rows, K) logits, in float32 unless they are in float64. Raises ModelError for anything else. label: the model's, for the message."""
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != rows:
        got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else with_article(type(output).__name__)
        raise ModelError(f"model '{label}' must return logits of shape (N, K), one row for each of {rows} images; it returned {got}.")
    return of_classes(output if output.dtype == torch.float64 else output.float())


def of_classes(logits: Tensor) -> Tensor:
    """(N, K) logits; a single logit z, which a sigmoid makes the probability of the second of two classes, as (0, z)."""
    return torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits
