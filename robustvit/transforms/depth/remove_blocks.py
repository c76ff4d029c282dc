"""Blocks of a transformer left out."""

from __future__ import annotations

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.block_sequence import block_count, check_removed, with_blocks
from robustvit.primitives.lesions.seeded_choices import listed_subsets
from robustvit.primitives.limits import Count, Whole
from robustvit.spec.registry import transform


@transform(
    family="depth", source="Freiberger et al. 2024 (LayerShuffle), pruning at test time", url="https://arxiv.org/abs/2407.04513",
    licence="the authors' code has no licence; this is written from the paper", hosts="sequence", no_op="count=0",
    rules="Average over at least ten subsets (index 0 … 9) and report sequential and shuffled remainders apart. Not fine-tuned.",
)  # fmt: skip
def remove_blocks(
    model: Classifier, *, count: Whole = 1, blocks: tuple[int, ...] | None = None, index: Whole = 0, subsets: Count = 10,
    shuffled: bool = False, seed: Whole = 0,
) -> Classifier:  # fmt: skip
    """Leaves out blocks of a transformer; those that stay compute in their order.

    count: how many go. They are number `index` of the listed subsets: all subsets of that size where these are at most `subsets`, else so
    many distinct random ones of `seed`. blocks: the very blocks, counted from 0, in place of count and index. shuffled: whether those that
    stay compute in a random order of `seed` and `index`. Raises BadParameter where no block would stay, or one is not there or
    named twice.
    """
    depth = block_count(model, "remove_blocks")
    removed = set(_removed(depth, count, blocks, index, subsets, seed, model.card.label))
    check_removed("remove_blocks", len(removed), depth, model.card.label)
    kept = [block for block in range(depth) if block not in removed]
    if shuffled and removed:
        kept = [kept[place] for place in Draws(seed, "order of what stays", [str(index)]).permutation(len(kept))[0].tolist()]
    return with_blocks(model, kept)


def _removed(depth: int, count: int, blocks: tuple[int, ...] | None, index: int, subsets: int, seed: int, label: str) -> tuple[int, ...]:
    if blocks is not None:
        absent = [block for block in blocks if not 0 <= block < depth]
        if absent:
            raise BadParameter(f"remove_blocks: model '{label}' has no block {absent[0]}; it has 0 to {depth - 1}.")
        if len(set(blocks)) < len(blocks):
            twice = next(block for place, block in enumerate(blocks) if block in blocks[:place])
            raise BadParameter(f"remove_blocks: block {twice} is named twice.")
        return blocks
    check_removed("remove_blocks", count, depth, label)
    found = listed_subsets(depth, count, subsets, seed)
    if index >= len(found):
        raise BadParameter(
            f"remove_blocks: index is {index}; of {count} of {depth} blocks {len(found)} subsets are listed, 0 to {len(found) - 1}."
        )
    return found[index]
