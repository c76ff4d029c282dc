"""Positions from a convolution of the tokens: the position encoding generator of CPVT."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.structure.position_convolution import generate_positions, pool_patches
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.token_reduction import chosen_blocks
from robustvit.spec.registry import transform


@transform(
    family="geometry", source="Chu et al. 2021 (Conditional Positional Encodings)", url="https://arxiv.org/abs/2102.10882", hosts="patches",
    no_op="at=[]", licence="written from the paper",
    rules="A structure to train: the learned positions are dropped and the weights in their place are random; a trained model is much "
    "worse until it is trained on. Transforms of plain blocks do not take it.",
)  # fmt: skip
def peg(
    model: Classifier, *, at: tuple[Annotated[int, Ge(0)], ...] = (0,), circular: bool = False, pool: Literal["own", "mean"] = "own"
) -> Classifier:  # fmt: skip
    """The position encoding generator of CPVT: patch tokens plus a depth-wise 3x3 convolution of them, in place of learned positions.

    at: the blocks behind which it stands, counted from 0; none changes nothing. circular: pads the border with the opposite side, so that
    logits stay under circular shifts of whole patches; else with zeros, as published. pool: `mean` reads logits from the mean of patch
    tokens, with the head that there is. Takes grids of any size where the model does. Raises BadParameter for a block that is not there,
    HostRefused for a model without a learned position embedding.
    """
    blocks = chosen_blocks("peg", at, model, "at")

    def placed(module: nn.Module) -> nn.Module:
        with seeded():
            generate_positions(module, blocks, circular)
        if pool == "mean":
            pool_patches(module)
        return module.eval()

    with refusing("peg", model):
        return changed(model, placed if blocks else unchanged)
