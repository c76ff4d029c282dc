"""Similarity of features, by groups of samples."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.metrics.insides.sides import Side, of_block, of_sides
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Clustered, Weighted

Block = Annotated[int, Ge(0)] | None
_LEAST = 4  # groups, for an interval over them


@metric(
    source="Kornblith et al. 2019, Similarity of Neural Network Representations Revisited; groups: Nguyen et al. 2021",
    url="https://arxiv.org/abs/2010.15327", family="insides", unit="", descriptive=True, curve="block",
    needs=("group", "value_hsic_xy", "value_hsic_xx", "value_hsic_yy"),
)  # fmt: skip
def cka(records: pd.DataFrame, *, block: Block = None, to: Block = None) -> Clustered:
    """Centred kernel alignment of features: 1 where those of clean and shifted images, or of two models, differ by a rotation and a scale.

    Of the analysis cka. block: of the clean images, counted from 0; to: what it is compared with, its own place by default; where both are
    None, the mean over all blocks of each with its own place. Denominator: whole groups of samples; bootstrap over groups. No reference
    table.
    """
    ids, (xy, xx, yy) = by_group(records, "value_hsic_xy", "value_hsic_xx", "value_hsic_yy")
    blocks, others = xx.shape[1], yy.shape[1]
    if block is None and to is not None:
        raise NotApplicable("`to` is what a block is compared with: give block, too")
    if max(-1 if block is None else block, 0) >= blocks or (0 if to is None else to) >= others:
        raise NotApplicable(f"the model has {blocks} blocks, and the other {others}")
    if to is None and blocks != others:
        raise NotApplicable(f"blocks have no place of their own in a model of {others}, where this one has {blocks}: give block and to")
    places = [(place, place) for place in range(blocks)] if block is None else [(block, block if to is None else to)]

    def alignment(weights: np.ndarray) -> np.ndarray:
        both, first, second = (weights @ part for part in (xy, xx, yy))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = [both[:, i * others + j] / np.sqrt(np.maximum(first[:, i], 0.0) * np.maximum(second[:, j], 0.0)) for i, j in places]
        return np.asarray(np.mean(found, axis=0))

    return Clustered(ids, Weighted(alignment, counted=len(ids)))


def by_group(records: pd.DataFrame, *columns: str) -> tuple[list[str], list[np.ndarray]]:
    """The groups of samples that have values, and for each column its values, (groups, …), as float64.

    Raises NotApplicable where fewer than four groups are whole, from which too little can be said about others.
    """
    first = records.drop_duplicates("group").sort_values("group")
    values = [np.stack(first[name].tolist()).astype(np.float64) for name in columns]
    whole = np.flatnonzero(~np.isnan(values[0].reshape(len(first), -1)).any(axis=1))
    if len(whole) < _LEAST:
        raise NotApplicable(f"it takes {_LEAST} whole groups of samples, and the cell has {len(whole)}")
    return [str(group) for group in first["group"].iloc[whole]], [one[whole] for one in values]


@metric(
    source="Walmer et al. 2023, Teaching Matters", url="https://arxiv.org/abs/2212.03862", family="insides", unit="%",
    descriptive=True, curve="block", needs=("group", "value_clean_cluster_{of}", "value_{side}_cluster_{of}"),
)  # fmt: skip
def cluster_agreement(
    records: pd.DataFrame, *, of: Literal["purity", "nmi", "ari"] = "nmi", block: Block = None, side: Side = "clean", drift: bool = False
) -> Clustered:  # fmt: skip
    """How well clusters of features agree with the classes of the images.

    Of the analysis token_clusters. of: purity, normalised mutual information or adjusted Rand index. block: counted from 0; None is the
    mean over all. side: of clean images or of shifted ones; drift: the latter less the former. Denominator: whole groups of images;
    bootstrap over groups. No reference table.
    """
    columns = dict.fromkeys((f"value_clean_cluster_{of}", f"value_{side}_cluster_{of}"))
    ids, values = by_group(records, *columns)
    found = dict(zip(columns, values, strict=True))
    return Clustered(ids, of_sides(f"cluster_{of}", side, drift, lambda column: of_block(found[column], block)))
