"""No defense: cross-entropy, the baseline that every defense is compared with."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from robustvit.batch import Batch
from robustvit.draws import Draws
from robustvit.registry import defense
from robustvit.training import Defense


@defense(family="baseline", source="Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision (label smoothing)")
def plain(*, smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1) -> Defense:
    """Cross-entropy with smoothed labels.

    smoothing: the share of each label spread evenly over all classes; 0 is plain cross-entropy.
    """

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return functional.cross_entropy(model(batch.images), batch.labels, label_smoothing=smoothing)

    return Defense("plain", loss=loss)
