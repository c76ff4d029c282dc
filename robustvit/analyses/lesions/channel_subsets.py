"""Accuracy of a model that sees some of the channels of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.kept_channels import keeping_channels
from robustvit.primitives.lesions.right_predictions import right_predictions
from robustvit.primitives.lesions.shown_channels import listed_channels, without_channels
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import Passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="lesions", source="Bao et al. 2024 (ChannelViT)", url="https://arxiv.org/abs/2309.16108", reads_labels=True,
    licence="the authors' code is CC BY-NC 4.0; this is written from the paper", passes="subset_passes",
    rules="Masked after the normalisation, as the paper does; where=pixels masks before it, which is another question.",
)  # fmt: skip
def channel_subsets(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, where: Literal["normalised", "pixels"] = "normalised", scale: bool = True, subsets: Count = 32, seed: Whole = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """Whether predictions are right on subsets of the channels of an image, the same subsets for every sample.

    Of up to 8 channels all subsets but the empty one; of more at most `subsets` distinct random ones of each size. where: normalised, the
    others are zero after the normalisation, its mean; pixels, they are zero before it, black. scale: whether those that stay are multiplied
    by C over their number, after the normalisation alone; of a model whose tokens are of single channels those of the others are left out.
    Lists of columns, an entry for each subset: value_subset_right, 1 or 0; value_subset_size, the number of its channels.
    """
    chosen, right = listed_channels(model.channels, subsets, seed), []
    for kept in chosen:
        if where == "normalised":
            right.append(right_predictions(keeping_channels("channel_subsets", model, kept, rescale=scale), images, labels))
        else:
            others = [channel for channel in range(model.channels) if channel not in kept]
            right.append(right_predictions(model, without_channels(images, others), labels))
    found = torch.stack(right, dim=1)
    return {"value_subset_right": found, "value_subset_size": found.new_tensor([len(kept) for kept in chosen]).expand_as(found)}


def subset_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One for each subset."""
    return Passes(forward=len(listed_channels(model.channels, int(spec.get("subsets", 32)), int(spec.get("seed", 0)))))  # type: ignore[arg-type]
