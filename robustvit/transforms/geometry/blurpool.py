"""An anti-aliased patch embedding."""

from __future__ import annotations

from typing import Literal

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.structure.blurred_embedding import Border, blur_embedding
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="geometry", source="Zhang 2019 (Making Convolutional Networks Shift-Invariant Again)", url="https://arxiv.org/abs/1904.11486",
    hosts="blocks", no_op="size=1", licence="the authors' code is not for commercial use; this is written from the paper",
    rules="The paper blurs between layers of convolutional networks; here it is the patch embedding, and the image is blurred before it, "
    "which is the same but for the border: the image is padded, and not the map. Gains at the highest frequency of a token grid are "
    "cos(π/2p)^(size − 1): sizes 3 to 5 do nearly nothing for patches of 16 pixels.",
)  # fmt: skip
def blurpool(model: Classifier, *, size: Literal["1", "3", "4", "5", "half"] = "3", border: Border = "reflect") -> Classifier:
    """A binomial filter before the patch embedding, so that less of what patches cannot represent is aliased.

    size: taps of the filter along rows and columns; 1 changes nothing, half is the size with which half is left of the highest frequency
    of the token grid (10 for patches of 4 pixels, 37 of 8, 145 of 16). border: what the image is padded with. Raises HostRefused for a
    filter that is wider than the image.
    """

    def blurred(module: nn.Module) -> nn.Module:
        return blur_embedding(module, None if size == "half" else int(size), computed_size(model), border)

    with refusing("blurpool", model):
        return changed(model, blurred)
