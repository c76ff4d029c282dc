"""AdaptFormer: bottlenecks beside the MLPs of a frozen model, and its head, are trained."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.defense import Defense
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.structure.adapters import AdaptedMLP, adapt_blocks
from robustvit.primitives.training.freezing import train_only, trained_heads
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.primitives.training.plain_host import plain_host
from robustvit.spec.registry import defense


@defense(
    family="tuning", source="Chen et al. 2022 (AdaptFormer)", url="https://arxiv.org/abs/2205.13535",
    licence="the authors' code is MIT; this is written from the paper",
    rules="Given as `--tuning adapter`. The checkpoint names the transform `adapter`, whose page says what differs.",
)  # fmt: skip
def adapter(*, width: Count = 64, scale: Radius = 0.1) -> Defense:
    """Trains bottlenecks beside the MLPs of a frozen vision transformer, and its head (AdaptFormer, Chen et al. 2022).

    width: of the bottlenecks. scale: of what they add. Takes timm's plain vision transformers with a head.
    """

    def prepare(model: nn.Module) -> nn.Module:
        heads = trained_heads(model, "adapter")
        made = adapt_blocks(plain_host(model, "adapter"), width, scale)
        new = (part for one in made.modules() if isinstance(one, AdaptedMLP) for part in (one.down, one.up))
        return train_only(made, [*heads, *new])

    return Defense("adapter", prepare=prepare, surgery=named_surgery("adapter", width=width, scale=scale))
