"""Patches of other sizes, at other places, fewer and more."""

from __future__ import annotations

import contextlib
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import PRECISIONS, Classifier
from robustvit.primitives.classifier_views import around, constructor_arguments, why_wrapped
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.token_dropping import why_not_plain
from robustvit.primitives.limits import NonNegative
from robustvit.primitives.resolution.patch_boxes import Sampling, drawn_boxes, forward_boxes, oversampling
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.spec.registry import transform

Multiple = Annotated[float, Ge(1), Le(8)]
Missing = Annotated[float, Ge(0), Lt(1)]
Amount = Annotated[float, Gt(0), Le(8)]


@transform(
    family="resolution", source="our definition; after Beyond Grids (patches as boxes)", url="https://arxiv.org/abs/2309.13353",
    hosts="patches", no_op="size=1,missing=0",
    rules="The paper's sampling was not at hand: what is drawn here is our definition, and no figure is compared with its tables. Every "
    "sample has boxes of its own, keyed by its id, the same in every scenario of a seed. Models of windows cannot leave tokens out.",
)  # fmt: skip
def elastic_patches(
    model: Classifier, *, size: Multiple = 1.0, jitter: NonNegative = 0.0, missing: Missing = 0.0, count: Amount | None = None
) -> Classifier:  # fmt: skip
    """The model on patches that are cut elsewhere than in a grid, resampled to its own patch size, at interpolated positions.

    size: the largest side in patches; every patch has one uniform in [1, size] about the middle of its cell. jitter: how far each is moved,
    at most, in patches, in both directions. missing: the share of patches that are left out before the first block. count: in place of a
    patch for each cell, so many times as many, at uniform places. Patches that would lie outside are moved inside. The grid itself is the
    model. Raises HostRefused for another model than timm's plain vision transformer, for one that reads tokens in their places (lookhere,
    peg, anchor, aps), in either order, and for one whose images or channels an earlier transform changes: name that later.
    """
    sampling = Sampling(size, jitter, missing, count)
    if why := why_not_plain(model.model):
        raise HostRefused(f"'elastic_patches' does not take '{model.card.label}': {why}.")
    if sampling.is_grid:
        return changed(model, unchanged)
    if why := why_wrapped(model):
        raise HostRefused(f"'elastic_patches' does not take '{model.card.label}': it {why}; name elastic_patches before that.")
    return _Elastic(changed(model, unchanged), sampling)


class _Elastic(Classifier):
    """A plain vision transformer on drawn patches. draws: of the rows of what it is queried with; None for the same patches for all."""

    def __init__(self, host: Classifier, sampling: Sampling, draws: Draws | None = None) -> None:
        super().__init__(**constructor_arguments(host))
        self.host, self.sampling, self.draws = host, sampling, draws
        self.gradient = host.gradient

    def with_module(self, module: nn.Module) -> Classifier:
        """The same patches for its host around another module. Raises HostRefused for one that cannot compute on patches anywhere."""
        if why := why_not_plain(module):
            raise HostRefused(f"'{self.card.label}' computes on patches as boxes, which this transform does not go with: {why}.")
        return _Elastic(around(self.host, module), self.sampling, self.draws)

    def bound(self, draws: Draws) -> Classifier:
        """The patches of these samples."""
        return _Elastic(self.host, self.sampling, draws)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits."""
        self._check(images)
        embed = self.model.patch_embed
        draws = Draws(0, "elastic_patches", ["every sample"]) if self.draws is None else self.draws.at("elastic_patches")
        boxes = drawn_boxes(draws, embed.grid_size, embed.patch_size, self.sampling).to(images.device)  # type: ignore[union-attr,arg-type]
        boxes = boxes.expand(len(images), -1, -1) if self.draws is None else boxes
        parts = zip(torch.split(images, self.tile), torch.split(boxes, self.tile), strict=True)
        return torch.cat([self._of_tile(some, where)[: len(some)] for some, where in parts])

    def _of_tile(self, images: Tensor, boxes: Tensor) -> Tensor:
        absent = self.tile - len(images)
        images = torch.cat((images, images.new_zeros(absent, *images.shape[1:])))
        boxes = torch.cat((boxes, boxes[:1].expand(absent, -1, -1)))
        normal = (images.to(self.mean.dtype) - self.mean) / self.std  # type: ignore[operator,arg-type]
        dtype = PRECISIONS[self.precision]
        cast = contextlib.nullcontext() if dtype is torch.float32 else torch.autocast(self.device.type, dtype=dtype)
        with cast, self.host.module_context():
            logits = forward_boxes(self.model, normal, boxes, oversampling(self.sampling.size))
        return logits if logits.dtype == torch.float64 else logits.float()
