"""Models of two classes that have one logit."""

from __future__ import annotations

import torch
from torch import Tensor


def of_classes(logits: Tensor) -> Tensor:
    """(N, K) logits; a single logit z, which a sigmoid makes the probability of the second of two classes, as (0, z)."""
    return torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits
