"""Adaptive polyphase anchoring: vision transformers whose logits no circular shift of an image changes."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.anchored_models import anchor_model
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.shift_guarantee import require_own_shifts
from robustvit.spec.registry import transform


@transform(
    family="geometry", source="Ding et al. 2023 (Reviving Shift Equivariance in Vision Transformers)",
    url="https://arxiv.org/abs/2306.07470", hosts="grids", no_op="adaptive=false",
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="A structure to train: random weights take the place of a vision transformer's learned positions, and a trained one is much "
    "worse until it is trained on. The guarantee is for circular shifts; what a crop changes at its border is not covered. "
    "Norms are of pixel levels, where the authors take normalised pixels, and compared exactly; ties are broken by how the image looks "
    "from a phase, where the authors take the first. The authors add a layer norm behind the patch embedding; here there is none. Swin is "
    "not in the paper: its windows lose the mask that keeps the sides of an image apart.",
)  # fmt: skip
def anchor(model: Classifier, *, adaptive: bool = True) -> Classifier:
    """Adaptive polyphase anchoring (Ding et al. 2023): images are rolled so that the phase of their largest norm is what patches begin at.

    VisionTransformer and DeiT: before the patch embedding, behind which a circular depth-wise 3x3 convolution of the tokens, added to them,
    takes the place of the position embedding. Twins: also before each attention in windows or to reduced keys, on the residual stream,
    which is not rolled back, with circular padding of its position convolutions. Swin: before each attention in unshifted windows, and
    before patch merging where windows are of an odd side. adaptive: false changes nothing. Input gradients are rolled back. Raises
    HostRefused for images that patches, windows or reductions do not divide, for a model that resizes its images, and for a module that is
    not equivariant, by name. So do later transforms, after which one is not.
    """

    def anchored(module: nn.Module) -> nn.Module:
        with seeded():
            return anchor_model(module, model.size, model.mean, model.std).eval()  # type: ignore[arg-type]

    with refusing("anchor", model):
        if adaptive:
            require_own_shifts(model)
        return changed(model, anchored if adaptive else unchanged)
