"""A classifier of parts that it finds itself."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.structure.part_maps import find_parts
from robustvit.primitives.surgery.hosts import refusing
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Aniraj et al. 2024 (PDiscoFormer)", url="https://arxiv.org/abs/2407.04538", hosts="parts", no_op="count=0",
    licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="A structure to train, by the defense `parts`: its head is new, and predictions before that mean nothing. The option of the code "
    "to assign by a Gumbel softmax is left out.",
)  # fmt: skip
def parts(model: Classifier, *, count: Whole = 8) -> Classifier:
    """Logits from parts of the image (PDiscoFormer): patch tokens are assigned to prototypes, and a shared head reads each part.

    count: of parts, besides one more for the background, which has no logits; 0 changes nothing. Assignments are the softmax of −|f − p|²
    over prototypes; a part's feature is the mean of its tokens times a learned gain, and logits are averaged over parts. Takes timm's plain
    vision transformers with a linear head and at least 4x4 patches, all of an image.
    """

    def parted(module: nn.Module) -> nn.Module:
        with seeded():
            return find_parts(module, count).eval()

    with refusing("parts", model):
        return changed(model, parted)
