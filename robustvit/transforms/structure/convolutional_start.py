"""A first block whose attention begins as a convolution."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt
from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.convolutional_attention import start_as_convolution
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Li et al. 2021, Can Vision Transformers Perform Convolution?; Cordonnier et al. 2020",
    url="https://arxiv.org/abs/2111.01353", hosts="patches", no_op="kernel=0",
    rules="A structure to train, by the defense `convolutional_start`: of a trained model it replaces what the first attention does. A "
    "convolution of patch tokens, behind the block's norm; one of pixels, as in the first paper, follows where tokens keep all of a patch.",
)  # fmt: skip
def convolutional_start(model: Classifier, *, kernel: Whole = 3, sharpness: Annotated[float, Gt(0)] = 20.0) -> Classifier:
    """Makes the attention of the first block compute a convolution of the patch tokens: each head attends to one neighbour of a patch.

    kernel: odd, in patches; kernel² heads are its taps, of the head's own values and projection; further heads stay as they are, and a
    model of fewer is refused; 0 changes nothing. sharpness: what the neighbour has more than others before the softmax; at 20 its weight is
    1 up to 2e-9 for each other token. Beyond the grid are zeros.
    """

    def begun(module: nn.Module) -> nn.Module:
        return start_as_convolution(module, kernel, sharpness)

    with refusing("convolutional_start", model):
        return changed(model, begun)
