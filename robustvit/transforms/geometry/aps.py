"""Adaptive polyphase sampling of a patch embedding."""

from __future__ import annotations

from typing import Any

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.anchoring import AdaptiveSampling
from robustvit.primitives.structure.equivariance_probe import module_that_breaks
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.structure.position_convolution import PositionConvolution, drop_positions
from robustvit.primitives.surgery.hosts import plain_vit, refusing
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.shift_guarantee import require_own_shifts
from robustvit.spec.registry import transform


@transform(
    family="geometry", source="Chaman and Dokmanić 2021 (Truly Shift-Invariant Convolutional Neural Networks)",
    url="https://arxiv.org/abs/2011.14214", hosts="patches", no_op="adaptive=false",
    licence="the authors' code has no licence; this is written from the paper",
    rules="The paper samples maps of convolutional networks at stride 2; here it is a patch embedding, at the stride of patches, beside "
    "`anchor`, whose positions it has. Where norms of phases are equal to rounding, a shift may change which is kept.",
)  # fmt: skip
def aps(model: Classifier, *, adaptive: bool = True) -> Classifier:
    """Adaptive polyphase sampling: patches are embedded at every pixel, and the phase of the largest norm of the embedded map is kept.

    The baseline of `anchor`: a circular shift of an image shifts its tokens circularly, at the cost of patch height x width times the
    embedding's. A circular depth-wise 3x3 convolution of the tokens takes the place of the position embedding, as there. adaptive: false
    changes nothing. Raises HostRefused where patches overlap or do not divide images, where anything else in the model depends on places,
    as it does in `anchor`, and for a model that resizes its images.
    """

    def sampled(module: nn.Module) -> nn.Module:
        vit: Any = plain_vit(module)
        conv = vit.patch_embed.proj
        if type(conv) is not nn.Conv2d or conv.kernel_size != conv.stride or any(conv.padding):
            raise HostRefused("its patch embedding is no convolution of patches side by side.")
        if any(side % step for side, step in zip(model.size, conv.stride, strict=True)):
            raise HostRefused(f"its patches of {conv.stride[0]}x{conv.stride[1]} do not divide {model.size[0]}x{model.size[1]}.")
        with seeded():
            vit.patch_embed.proj = AdaptiveSampling(conv, PositionConvolution(vit.embed_dim, circular=True).to(conv.weight))
        drop_positions(vit)
        if named := module_that_breaks(module, model.channels, model.size):
            raise HostRefused(f"{named} computes other numbers for a shifted image; all that pads is to pad circularly.")
        return module.eval()

    with refusing("aps", model):
        if adaptive:
            require_own_shifts(model)
        return changed(model, sampled if adaptive else unchanged)
