"""Training without a defense: cross-entropy with label smoothing, the baseline."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.spec.registry import defense


@defense(family="baseline", source="Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision (label smoothing)")
def plain(*, smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1) -> Defense:
    """Cross-entropy with smoothed labels.

    smoothing: the share of each label that is spread evenly over all classes; 0 is plain cross-entropy.
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return functional.cross_entropy(model(batch.shown), batch.targets, label_smoothing=smoothing)

    return Defense("plain", loss=loss)
