"""Visual words within an image: patches of little variance are dropped before the first block."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.token_merging import share_of
from robustvit.primitives.surgery.token_reduction import TokenPolicy, reduce_tokens
from robustvit.primitives.surgery.tokens import NO_PATCH, Tokens
from robustvit.spec.registry import transform
from robustvit.transforms.token_reduction.evit import Share


@transform(
    family="token-reduction", source="Gee et al. 2024, the intra-image approach", url="https://arxiv.org/abs/2411.15397",
    licence="the authors' code is GPL-3.0; this is written from the paper",
    rules="Nothing is trained. Its choice goes by pixels alone, so that whoever writes pixels writes it: an attack that keeps its patches "
    "at a high variance is the adaptive one, and a gradient does not see it. The approach between images, with a vocabulary, is not this.",
    hosts="plain", no_op="keep=1",
)  # fmt: skip
def visual_words(model: Classifier, *, keep: Share = 0.5) -> Classifier:
    """Visual word tokenisation within an image (VWT, Gee et al. 2024): drops the patches of the least pixel variance.

    keep: the share of patches that stay, rounded up, in their order and with their positions; 1 changes nothing. The variance is that of
    all normalised pixels and channels of a patch; of equal ones the first stay.
    """
    return reduce_tokens(model, VariedPatches(keep, plain_vit(model.model).patch_embed.patch_size))


class VariedPatches(TokenPolicy):
    """Drops the patches of the least pixel variance before the first block. patch: (height, width) in pixels."""

    def __init__(self, keep: float, patch: tuple[int, int]) -> None:
        super().__init__()
        self.keep, self.patch = keep, patch

    def at_input(self, tokens: Tokens, images: Tensor) -> Tokens:
        """The tokens of varied patches, and those that are at no patch's place."""
        kept = share_of(tokens.patches, self.keep)
        if kept == tokens.patches:
            return tokens
        variance = patch_variance(images, self.patch).gather(1, tokens.places.clamp_min(0))
        variance = variance.masked_fill(tokens.places == NO_PATCH, torch.inf)
        return tokens.take(variance.argsort(dim=1, descending=True, stable=True)[:, :kept].sort(dim=1).values)


def patch_variance(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N, patches): the variance of the pixels of each patch of images (N, C, H, W), all channels together, in raster order."""
    height, width = patch
    patches = images.unfold(2, height, height).unfold(3, width, width).permute(0, 2, 3, 1, 4, 5)
    return patches.flatten(3).var(dim=3, correction=0).flatten(1)
