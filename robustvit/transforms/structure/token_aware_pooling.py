"""Token-aware average pooling before the attention of every block."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Count
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.structure.token_aware_pooling import pool_before_attention
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Guo et al. 2023 (TAP)", url="https://arxiv.org/abs/2303.11126", hosts="plain-patches", no_op="scales=1",
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="A structure to train, by the defense `tap`: its weights are random here, and a trained model is much worse with them.",
)  # fmt: skip
def token_aware_pooling(model: Classifier, *, scales: Count = 4) -> Classifier:
    """Token-aware average pooling (TAP, Guo et al. 2023): attention gets of each patch token a weighted mean of those around it.

    scales: pools; 0 is the token itself and d the mean of nine tokens d patches apart. Two small convolutions of the tokens around it give
    each token its weights; 1 changes nothing. Takes images of one size and all their tokens: token reduction is refused behind it.
    """

    def pooled(module: nn.Module) -> nn.Module:
        with seeded():
            return pool_before_attention(module, scales).eval()

    return changed(model, pooled)
