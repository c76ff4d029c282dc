"""What blocks do, by depth: of clean images, of shifted ones, and the difference."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.metrics.insides.sides import Side, of_block, of_sides
from robustvit.spec.registry import metric

Block = Annotated[int, Ge(0)] | None
Part = Literal["tokens", "attention", "mlp"]


@metric(
    source="Walmer et al. 2023, Teaching Matters", url="https://arxiv.org/abs/2212.03862", family="insides", unit="px",
    descriptive=True, curve="block", needs=("value_clean_distance", "value_{side}_distance"),
)  # fmt: skip
def attention_distance(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """How far a patch is from those that it attends to, on average over heads and patches; neither more nor less is better.

    Of the analysis attention_profile. block: counted from 0; None is the mean over all. side: of clean images or of shifted ones; drift:
    the latter less the former. Denominator: all samples of the cell, n. Bootstrap over samples, paired. No reference table.
    """
    return by_block(records, "distance", block, side, drift)


@metric(
    source="Walmer et al. 2023, Teaching Matters", url="https://arxiv.org/abs/2212.03862", family="insides", unit="nats",
    descriptive=True, curve="block", needs=("value_clean_entropy", "value_{side}_entropy"),
)  # fmt: skip
def attention_entropy(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Entropy of the attention of a patch to the others, on average over heads and patches; neither more nor less is better.

    Of the analysis attention_profile. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap
    over samples, paired. No reference table.
    """
    return by_block(records, "entropy", block, side, drift)


@metric(
    source="Park et al. 2023, What Do Self-Supervised Vision Transformers Learn?", url="https://arxiv.org/abs/2305.00729", family="insides",
    unit="%", descriptive=True, curve="block", needs=("value_clean_nmi", "value_{side}_nmi"),
)  # fmt: skip
def attention_nmi(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Normalised mutual information of queries and keys: 0 where all patches attend alike, which the paper calls collapse.

    Of the analysis attention_profile. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap
    over samples, paired. No reference table.
    """
    return by_block(records, "nmi", block, side, drift)


@metric(
    source="Walmer et al. 2023, Teaching Matters (offset attention heads; the threshold is ours)", url="https://arxiv.org/abs/2212.03862",
    family="insides", unit="%", descriptive=True, curve="block", needs=("value_clean_offset_heads", "value_{side}_offset_heads"),
)  # fmt: skip
def offset_heads(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Share of heads with more than half of their attention on one and the same neighbour of a patch; neither more nor less is better.

    Of the analysis attention_profile. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap
    over samples, paired. No reference table.
    """
    return by_block(records, "offset_heads", block, side, drift)


@metric(
    family="insides", source="definition", unit="%", descriptive=True, curve="block", needs=("value_clean_prefix", "value_{side}_prefix")
)
def prefix_attention(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Share of the attention of patches that prefix tokens (class, registers, distillation) have; neither more nor less is better.

    Of the analysis attention_profile. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap
    over samples, paired. No reference table.
    """
    return by_block(records, "prefix", block, side, drift)


@metric(
    source="Tang et al. 2021, Augmented Shortcuts for Vision Transformers", url="https://arxiv.org/abs/2106.15941", family="insides",
    unit="%", descriptive=True, curve="block", needs=("value_clean_diversity", "value_{side}_diversity"),
)  # fmt: skip
def feature_diversity(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """The part of the patch tokens that is not the same for all of them, after a block: 0 where all tokens are one.

    Of the analysis feature_diversity. block: counted from 0; None is the mean over all. side, drift: as for attention_distance.
    Denominator: all samples of the cell, n. Bootstrap over samples, paired. No reference table.
    """
    return by_block(records, "diversity", block, side, drift, joints=True)


@metric(
    source="Park and Kim 2022, How Do Vision Transformers Work?", url="https://arxiv.org/abs/2202.06709", family="insides", unit="",
    descriptive=True, curve="block", needs=("value_clean_log_amplitude", "value_{side}_log_amplitude"),
)  # fmt: skip
def high_frequencies(
    records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False, of: Part = "tokens"
) -> np.ndarray:  # fmt: skip
    """Log amplitude of feature maps at the highest frequency, less that at 0; or what attention or MLP add to it.

    Of the analysis fourier. of: tokens, after the block; attention and mlp, after it less before it: negative where it is a low-pass
    filter, as the paper says attention is. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n.
    Bootstrap over samples, paired. Neither more nor less is better. No reference table.
    """
    return by_block(records, "log_amplitude", block, side, drift, joints=True, of=of)


@metric(
    source="Park and Kim 2022, How Do Vision Transformers Work?", url="https://arxiv.org/abs/2202.06709", family="insides", unit="",
    descriptive=True, curve="block", needs=("value_clean_feature_variance", "value_{side}_feature_variance"),
)  # fmt: skip
def feature_variance(
    records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False, of: Part = "tokens"
) -> np.ndarray:  # fmt: skip
    """Variance of feature maps over the grid, averaged over channels; or what attention or MLP add to it.

    Of the analysis fourier. of, block, side, drift: as for high_frequencies. Denominator: all samples of the cell, n. Bootstrap over
    samples, paired. Neither more nor less is better. No reference table.
    """
    return by_block(records, "feature_variance", block, side, drift, joints=True, of=of)


@metric(
    source="Vilas et al. 2023, Analyzing Vision Transformers for Image Classification in Class Embedding Space",
    url="https://arxiv.org/abs/2310.18969", family="insides", unit="%", higher_is_better=True, curve="block", needs=("value_clean_{of}",
    "value_{side}_{of}"),
)  # fmt: skip
def class_identifiability(
    records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False,
    of: Literal["identifiability", "identifiability_patches", "written_attention", "written_mlp"] = "identifiability",
) -> np.ndarray:  # fmt: skip
    """How early the true class stands before others where the head reads the tokens of a block.

    Of the analysis class_identifiability. of: the token that the head reads, the patches, or what attention or MLP add to the former.
    block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap over samples, paired. No reference
    table.
    """
    return by_block(records, of, block, side, drift)


@metric(
    source="Raghu et al. 2021, Do Vision Transformers See Like Convolutional Neural Networks?", url="https://arxiv.org/abs/2108.08810",
    family="insides", unit="", descriptive=True, curve="block", needs=("value_clean_skip_{tokens}", "value_{side}_skip_{tokens}"),
)  # fmt: skip
def skip_strength(
    records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False, of: Literal["attention", "mlp"] = "mlp",
    tokens: Literal["patches", "class"] = "patches",
) -> np.ndarray:  # fmt: skip
    """Norm of what comes past attention or MLP by the skip connection, over the norm of what it adds.

    Of the analysis skip_strength. of: what adds to it; tokens: the patches or the class token. block, side, drift: as for
    attention_distance. Denominator: all samples of the cell, n. Bootstrap over samples, paired. Neither more nor less is better. No
    reference table.
    """
    first = ("attention", "mlp").index(of)
    return of_sides(f"skip_{tokens}", side, drift, lambda name: of_block(_lists(records, name)[:, first::2], block))


@metric(
    source="Li et al. 2023, How Does Attention Work in Vision Transformers?", url="https://arxiv.org/abs/2303.13731", family="insides",
    unit="%", descriptive=True, curve="block", needs=("value_clean_near", "value_{side}_near"),
)  # fmt: skip
def near_attention(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Share of the attention of a patch that itself and its neighbours have, at most one step away.

    Of the analysis attention_reach. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap over
    samples, paired. Neither more nor less is better. No reference table.
    """
    return by_block(records, "near", block, side, drift)


@metric(
    source="Ghiasi et al. 2022, What do Vision Transformers Learn?", url="https://arxiv.org/abs/2212.06727", family="insides", unit="%",
    descriptive=True, curve="block", needs=("value_clean_position", "value_{side}_position"),
)  # fmt: skip
def position_probe_accuracy(records: pd.DataFrame, *, block: Block = None, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """Share of patch tokens after a block from which a linear probe tells the place of the patch.

    Of the analysis token_position_probe. block, side, drift: as for attention_distance. Denominator: all samples of the cell, n. Bootstrap
    over samples, paired. Neither more nor less is better. No reference table.
    """
    return by_block(records, "position", block, side, drift)


def by_block(
    records: pd.DataFrame, name: str, block: int | None, side: Side, drift: bool, *, joints: bool = False, of: str = "tokens"
) -> np.ndarray:  # fmt: skip
    """(n,): a column of a block of each sample, or its mean over all blocks; drift: less that of the clean image.

    joints: whether its lists have an entry before the first block, and two for each, after attention and after MLP; of: as for
    high_frequencies. Raises NotApplicable for a block that the model does not have, BadParameter for the drift of clean images.
    """

    def read(column: str) -> np.ndarray:
        values = _lists(records, column)
        if joints:
            before, between, after = values[:, :-1:2], values[:, 1::2], values[:, 2::2]
            values = {"tokens": after, "attention": between - before, "mlp": after - between}[of]
        return of_block(values, block)

    return of_sides(name, side, drift, read)


def _lists(records: pd.DataFrame, column: str) -> np.ndarray:
    return np.stack(records[column].tolist()).astype(np.float64)
