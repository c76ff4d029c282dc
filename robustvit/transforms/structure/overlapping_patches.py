"""Patches that overlap."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.overlapping_patches import overlap_patches
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Lee et al. 2022 (ViTGAN)", url="https://arxiv.org/abs/2107.04589", hosts="patches", no_op="overlap=0",
    rules="A structure to train, by the defense `overlapping_patches`: what it adds is zero, and predictions stay until it is trained.",
)  # fmt: skip
def overlapping_patches(model: Classifier, *, overlap: Whole = 2) -> Classifier:
    """Patches wider by so many pixels on each side, as many as before: a kernel of P + 2·overlap at stride P.

    overlap: in pixels; 0 changes nothing. The border of the kernel begins at zero.
    """

    def widened(module: nn.Module) -> nn.Module:
        return overlap_patches(module, overlap) if overlap else module

    with refusing("overlapping_patches", model):
        return changed(model, widened)
