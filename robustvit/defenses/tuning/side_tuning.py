"""Hierarchical Side-Tuning, reduced: a side network beside a frozen model, and its head, are trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from robustvit.primitives.defense import Defense
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.side_network import add_side_network
from robustvit.primitives.training.freezing import train_only, trained_heads
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense


@defense(
    family="tuning", source="Lin et al. 2023 (Hierarchical Side-Tuning), reduced", url="https://arxiv.org/abs/2310.05393",
    rules="Given as `--tuning side`. The checkpoint names the transform `side`, whose page says how it is reduced.",
)  # fmt: skip
def side(*, width: Count = 64) -> Defense:
    """Trains a side network that reads the tokens of every block of a frozen vision transformer, and the head (HST, reduced).

    width: channels of the side map. No gradient is computed within the transformer. Takes timm's plain vision transformers with a head.
    """

    def prepare(model: nn.Module) -> nn.Module:
        heads = trained_heads(model, "side")
        made: Any = add_side_network(plain_host(model, "side"), width)
        own = [part for name, part in made.named_children() if name != "backbone"]
        return train_only(made, [*heads, *own])

    return Defense("side", prepare=prepare, surgery=named_surgery("side", width=width))
