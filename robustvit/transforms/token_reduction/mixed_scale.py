"""Mixed-scale tokens: regions of little variance are one coarse token, the others a token of each patch."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import computed_size
from robustvit.primitives.surgery.hosts import plain_vit
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.region_embedding import embedded_regions, with_embedding
from robustvit.primitives.surgery.token_merging import share_of
from robustvit.primitives.surgery.token_reduction import ReducedViT, TokenPolicy, reduce_tokens
from robustvit.primitives.surgery.tokens import NO_PATCH, Tokens, gathered
from robustvit.spec.registry import transform
from robustvit.transforms.token_reduction.visual_words import patches_of

SIDE = 2
"""Of a region, in patches."""
CITATION = """@inproceedings{havtorn2023msvit,
  title={MSViT: Dynamic Mixed-Scale Tokenization for Vision Transformers},
  author={Havtorn, Jakob Drachmann and Royer, Amelie and Blankevoort, Tijmen and Ehteshami Bejnordi, Babak},
  booktitle={IEEE/CVF International Conference on Computer Vision Workshops},
  year={2023}
}"""


@transform(
    family="token-reduction", source="Havtorn et al. 2023 (MSViT), variance in place of its learned gate",
    url="https://arxiv.org/abs/2307.02321", citation=CITATION, licence="no code of the authors; this is written from the paper",
    rules="Nothing is trained. Differs from the paper: the choice is by the variance of pixels, with equally many coarse regions in every "
    "image, where a learned gate, `learned_mixed_scale`, lets the number depend on the image. All "
    "patches and all regions are embedded and counted, chosen or not. A head that averages tokens weighs a coarse one as the four patches "
    "that it stands for. Whoever writes pixels writes the choice, which a gradient does not see: report restarts and a black-box attack, "
    "too.",
    hosts="plain-patches", no_op="share=0",
)  # fmt: skip
def mixed_scale(model: Classifier, *, share: Annotated[float, Ge(0), Le(1)] = 0.5) -> Classifier:
    """Mixed-scale tokenisation (after MSViT, Havtorn et al. 2023): one token for each region of 2x2 patches where there is little to see.

    share: of the regions, rounded up, those of the least variance of normalised pixels, all channels together, of equal ones the first; 0
    changes nothing. Such a coarse token is the embedding of its region resized by area to one patch, at the mean of the four positions; it
    is at no patch's place. Fine tokens come first, in their order. Raises HostRefused for a grid of an odd number of rows or columns, and
    for a model whose patch tokens are reduced already at the input.
    """
    region = region_of("mixed_scale", model)
    coarse = share_of(regions_of(model, region), share)
    if not coarse:
        return changed(model, unchanged)
    require_all_patches("mixed_scale", model)
    return reduce_tokens(model, MixedScales(coarse, region))


def region_of(transform: str, model: Classifier) -> tuple[int, int]:
    """(height, width) of a region in pixels. Raises HostRefused where the grid of patches does not divide into regions."""
    patch = plain_vit(model.model).patch_embed.patch_size
    region = (SIDE * patch[0], SIDE * patch[1])
    size = computed_size(model)
    if any(whole % part for whole, part in zip(size, region, strict=True)):
        raise HostRefused(
            f"'{transform}' does not take '{model.card.label}': its images of {_by(size)} pixels, in patches of {_by(patch)}, do not "
            f"divide into regions of {SIDE}x{SIDE} patches."
        )
    return region


def regions_of(model: Classifier, region: tuple[int, int]) -> int:
    """How many regions of so many pixels there are in what the module computes on."""
    high, wide = computed_size(model)
    return (high // region[0]) * (wide // region[1])


def require_all_patches(transform: str, model: Classifier) -> None:
    """Raises HostRefused for a model whose tokens are reduced at the input already."""
    if isinstance(model.model, ReducedViT) and any(map(_at_input, model.model.policies)):
        raise HostRefused(
            f"'{transform}' does not take '{model.card.label}' after a transform that reduces tokens at the input, where not all regions "
            "have their four patches; apply it before that, and once."
        )


class MixedScales(TokenPolicy):
    """Gives the regions of the least variance one token each. coarse: how many; region: (height, width) in pixels."""

    def __init__(self, coarse: int, region: tuple[int, int]) -> None:
        super().__init__()
        self.coarse, self.region = coarse, region

    def at_embedding(self, tokens: Tokens, images: Tensor, vit: Any) -> Tokens:
        """The fine tokens, and behind them the coarse ones, both in raster order."""
        order = patches_of(images, self.region).var(dim=2, correction=0).argsort(dim=1, stable=True)
        coarse, fine = order[:, : self.coarse].sort(dim=1).values, order[:, self.coarse :]
        members = members_of(images.shape[2] // self.region[0], images.shape[3] // self.region[1]).to(order.device)
        left = tokens.take(members[fine].flatten(1).sort(dim=1).values)
        values = gathered(embedded_regions(vit, images, SIDE), coarse).to(left.values.dtype)
        return left.having(
            values=torch.cat((left.values, values), dim=1),
            sizes=torch.cat((left.sizes, left.sizes.new_full(coarse.shape, SIDE * SIDE)), dim=1),
            places=torch.cat((left.places, torch.full_like(coarse, NO_PATCH)), dim=1),
            merged=True, costs=with_embedding(tokens.costs, vit, order.shape[1]),
        )  # fmt: skip


def members_of(rows: int, columns: int) -> Tensor:
    """(regions, 4) int64: the patches of each of rows x columns regions, all counted in raster order."""
    places = torch.arange(rows * SIDE * columns * SIDE).view(rows, SIDE, columns, SIDE)
    return places.permute(0, 2, 1, 3).reshape(rows * columns, SIDE * SIDE)


def _at_input(policy: Any) -> bool:
    """Whether a policy reduces tokens before the first block."""
    kind = type(policy)
    return kind.at_input is not TokenPolicy.at_input or kind.at_embedding is not TokenPolicy.at_embedding


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
