"""A denoiser of the final patch tokens."""

from __future__ import annotations

from torch import nn

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.limits import Whole
from robustvit.primitives.structure.feature_denoiser import denoise_features
from robustvit.primitives.structure.initial_weights import seeded
from robustvit.primitives.surgery.modules import changed
from robustvit.spec.registry import transform


@transform(
    family="structure", source="Yang et al. 2024 (Denoising ViT)", url="https://arxiv.org/abs/2401.02957", hosts="patches",
    no_op="blocks=0", licence="the authors' code is MIT; this is written from the paper and facts of the code",
    rules="A structure to train, by the defense `feature_denoiser`: what it adds is zero, and predictions stay until it is trained; those "
    "read from the class token stay after it, too. The authors draw the map of positions from N(0, .02) and the block as timm does; here "
    "the map and the last layers of the block begin at zero. Their map has 37x37 positions, this one those of the model. "
    "Of a model with prefix tokens what reads attention maps refuses it; without them its block counts as the model's last.",
)  # fmt: skip
def feature_denoiser(model: Classifier, *, blocks: Whole = 1) -> Classifier:
    """A denoiser of features (Denoising ViT, Yang et al. 2024): final patch tokens plus a map of positions go through a block more.

    It stands after the model's last norm and before pooling; prefix tokens do not go through it. blocks: of timm, with heads of 64
    channels, at least one, and an MLP four times as wide; 0 changes nothing. Takes all tokens of an image: token reduction is refused. The
    map is resampled where a model takes images of several sizes.
    """

    def denoised(module: nn.Module) -> nn.Module:
        with seeded():
            return denoise_features(module, blocks).eval()

    return changed(model, denoised)
