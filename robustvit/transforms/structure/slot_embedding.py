"""Blocks that are told in which slot they compute."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.structure.slot_embedding import embed_slots
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Freiberger et al. 2024 (LayerShuffle-position)", url="https://arxiv.org/abs/2407.04513", hosts="blocks",
    no_op="width=0", licence="the authors' code has no licence; this is written from the paper and facts of the code",
    rules="A structure to train, by the defense `layershuffle(kind=position)`: its weights are random here, and a trained model is much "
    "worse with them. Transforms of plain blocks do not take it.",
)  # fmt: skip
def slot_embedding(model: Classifier, *, width: Whole = 32) -> Classifier:
    """Tells every block the slot in which it computes (LayerShuffle-position): h ← h + GELU(W · LayerNorm([h; slot])) before the block.

    width: of the embedding of a slot, which all blocks share; W is each block's own. 0 changes nothing.
    """

    def embedded(module: nn.Module) -> nn.Module:
        with seeded():
            return embed_slots(module, width).eval()

    return changed(model, embedded)
