"""Accuracy of a transformer without some of its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.block_sequence import block_count, with_blocks
from robustvit.primitives.lesions.right_predictions import right_predictions
from robustvit.primitives.lesions.seeded_choices import listed_subsets
from robustvit.primitives.limits import Count, Whole
from robustvit.primitives.passes import Passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec


@analysis(
    family="lesions", source="Freiberger et al. 2024 (LayerShuffle), pruning at test time", url="https://arxiv.org/abs/2407.04513",
    licence="the authors' code has no licence; this is written from the paper", reads_labels=True, passes="removal_passes",
    rules="Report blocks in order and shuffled apart. Not fine-tuned.",
)  # fmt: skip
def removed_blocks(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, subsets: Count = 10, shuffled: bool = False, seed: Whole = 0
) -> dict[str, Tensor]:  # fmt: skip
    """Whether predictions are right without 0, 1, … of a transformer's blocks, the same ones for every sample; one block stays.

    Of each number all subsets are removed where they are at most `subsets`, else so many distinct random ones of `seed`. shuffled: whether
    those that stay compute in a random order of the subset's own, also where none is removed. Lists of columns, an entry for each subset:
    value_removed_right, 1 or 0; value_removed_count, how many blocks are gone. Raises HostRefused for a model without one sequence of
    blocks.
    """
    runs = kept_blocks(block_count(model, "removed_blocks"), subsets, shuffled=shuffled, seed=seed)
    right = torch.stack([right_predictions(with_blocks(model, kept), images, labels) for kept in runs], dim=1)
    most = max(map(len, runs))
    return {"value_removed_right": right, "value_removed_count": right.new_tensor([most - len(kept) for kept in runs]).expand_as(right)}


def kept_blocks(depth: int, subsets: int, *, shuffled: bool, seed: int) -> list[tuple[int, ...]]:
    """The blocks that compute in each run, in their order. Where they are shuffled, all blocks are there as many times as subsets."""
    found = []
    for count in range(depth):
        removed = listed_subsets(depth, count, subsets, seed)
        for number, gone in enumerate(removed * subsets if shuffled and count == 0 else removed):
            kept = [block for block in range(depth) if block not in gone]
            if shuffled:
                places = Draws(seed, f"order of what stays of {count}", [str(number)]).permutation(len(kept))[0].tolist()
                kept = [kept[place] for place in places]
            found.append(tuple(kept))
    return found


def removal_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """One for each subset, in the share of blocks that it computes."""
    depth = block_count(model, "removed_blocks")
    runs = kept_blocks(depth, int(spec.get("subsets", 10)), shuffled=bool(spec.get("shuffled")), seed=int(spec.get("seed", 0)))  # type: ignore[arg-type]
    return Passes(forward=sum(map(len, runs)) / depth)
