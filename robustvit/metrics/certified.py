"""Certified accuracy: predictions that no attack in the threat model of a certificate can change, as shares of all samples.

A sample that is certified and misclassified does not count. Every patch size is computed from the same stored votes; only the classes of
the data's first reading compete.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.spec.ablations import Ablations
from robustvit.spec.registry import metric
from robustvit.statistics.metric_context import MetricContext

Patch = Annotated[int, Ge(1)]

_VOTES = ("label", "vote", "votes_first", "votes_second", "votes", "tokens")  # columns of votes on ablations


@metric(source="Levine and Feizi 2020; Salman et al. 2022, with an exact count", unit="%", higher_is_better=True, needs=_VOTES)
def certified_accuracy(records: pd.DataFrame, context: MetricContext, *, patch: Patch) -> np.ndarray:
    """Share of samples classified correctly, with or without any square patch of `patch` pixels anywhere in the image.

    Holds where votes of the first class − votes of the second > 2Δ, with Δ the most ablations that such a patch can touch, counted over all
    its places; strict, so that ties do not count. Denominator: all samples of the cell, n. Wilson interval. No reference table. A cell with
    `stop_at` has the one size.
    """
    ablations = _ablations(context, patch)
    return _right(records) * (_lead(records, ablations) > 2 * ablations.touched(patch))


@metric(
    title="certified accuracy, published bound",
    source="Salman et al. 2022, its authors' code (github.com/MadryLab/smoothed-vit, MIT)",
    unit="%",
    higher_is_better=True,
    needs=_VOTES,
)
def certified_paper(records: pd.DataFrame, context: MetricContext, *, patch: Patch) -> np.ndarray:
    """As `certified_accuracy` with the published ⌈(patch + width − 1) / stride⌉ for Δ: to compare with published numbers, and no proof.

    It is too small where stride does not divide the side of the image, for some sizes. Where it is exact both metrics agree. Denominator
    and interval as there.
    """
    ablations = _ablations(context, patch)
    if context.stop_at:
        raise NotApplicable("votes were counted until the exact certificate was decided, which is not this one; run without stop_at")
    return _right(records) * (_lead(records, ablations) > 2 * ablations.touched_by_formula(patch))


@metric(source="definition", unit="px", higher_is_better=True, needs=_VOTES)
def largest_patch(records: pd.DataFrame, context: MetricContext) -> np.ndarray:
    """Mean side of the largest square patch that the certificate holds against; 0 for a misclassified or uncertified sample.

    Denominator: all samples of the cell, n. Bootstrap interval. No reference table.
    """
    ablations = _ablations(context, None)
    gaps = [2 * ablations.touched(patch) for patch in range(1, min(ablations.size) + 1)]
    return _right(records) * np.searchsorted(gaps, _lead(records, ablations), side="left")


@metric(
    title="certified accuracy, place by place",
    source="definition: what a patch can do to the votes at each place",
    unit="%",
    higher_is_better=True,
    needs=("label", "vote", "patch_held"),
)
def certified_by_place(records: pd.DataFrame, context: MetricContext, *, patch: Patch) -> np.ndarray:
    """As `certified_accuracy`, place by place: counts the votes that the patch touches there, not the most that it touches anywhere.

    Proves what that metric proves and often more, about the same smoothed model. Denominator: all samples of the cell, n. Wilson interval.
    No reference table.
    """
    _ablations(context, patch)
    return np.asarray(_right(records) * np.asarray(records["patch_held"] >= patch))


@metric(title="largest patch, place by place", source="definition", unit="px", higher_is_better=True, needs=("label", "vote", "patch_held"))
def largest_patch_by_place(records: pd.DataFrame) -> np.ndarray:
    """As `largest_patch`, place by place: mean side of the largest certified square patch; 0 for a misclassified sample.

    Denominator: all samples of the cell, n. Bootstrap interval. No reference table.
    """
    return np.asarray(_right(records) * np.asarray(records["patch_held"]))


@metric(source="Salman et al. 2022 (ablation accuracy)", unit="%", higher_is_better=True, needs=("votes_label", "votes"))
def ablation_accuracy(records: pd.DataFrame, context: MetricContext) -> np.ndarray:
    """Share of votes that are for the label: how often the model is correct on one ablation.

    Denominator: all votes on all samples of the cell; n counts samples. Bootstrap over samples. No reference table.
    """
    if context.stop_at:
        raise NotApplicable("not all votes were counted; run without stop_at")
    return np.asarray(records["votes_label"] / records["votes"], dtype=np.float64)


@metric(source="definition", unit="votes", higher_is_better=False, needs=("votes", "tokens"))
def votes_needed(records: pd.DataFrame) -> np.ndarray:
    """Mean number of votes counted on a sample: all of them, or with `stop_at` those that decided the certificate.

    Denominator: all samples of the cell, n. Bootstrap interval. No reference table.
    """
    return np.asarray(records["votes"], dtype=np.float64)


@metric(
    source="Cohen et al. 2019",
    url="https://arxiv.org/abs/1902.02918",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "radius", "level"),
)
def certified_accuracy_l2(records: pd.DataFrame, *, radius: Annotated[float, Ge(0)]) -> np.ndarray:
    """Share of samples classified correctly, with or without any perturbation of l2 norm up to `radius` (pixels in [0, 1]).

    Holds for each sample with the probability in the column `level`, over the noise drawn for its certificate. Abstentions count as
    misclassified. Denominator: all samples of the cell, n. Wilson interval (over samples; it does not include `level`). No reference table.
    """
    return np.asarray((records["pred"] == records["label"]) & (records["radius"] >= radius), dtype=np.float64)


@metric(
    source="Zhai et al. 2020 (MACER), average certified radius",
    url="https://arxiv.org/abs/2001.02378",
    unit="",
    higher_is_better=True,
    needs=("label", "pred", "radius"),
)
def average_certified_radius(records: pd.DataFrame) -> np.ndarray:
    """Mean certified l2 radius, of pixels in [0, 1]; 0 for a misclassified sample or an abstention.

    Denominator: all samples of the cell, n. Bootstrap interval. No reference table.
    """
    return np.where(records["pred"] == records["label"], np.asarray(records["radius"], dtype=np.float64), 0.0)


@metric(source="Cohen et al. 2019", url="https://arxiv.org/abs/1902.02918", unit="%", higher_is_better=False, needs=("pred", "level"))
def abstention(records: pd.DataFrame) -> np.ndarray:
    """Share of samples on which the smoothed model abstains, since no class was shown to have the majority.

    Denominator: all samples of the cell, n. Wilson interval. No reference table.
    """
    return np.asarray(records["pred"] < 0, dtype=np.float64)


def _ablations(context: MetricContext, patch: int | None) -> Ablations:
    """The ablations that a cell's votes are counted over. patch: the size in question, None for all sizes."""
    found = context.ablations
    if found is None:
        raise NotApplicable("these votes are not of columns, rows, both or blocks, whose geometry is known")
    if patch is not None and patch > min(found.size):
        raise NotApplicable(f"an image of {found.size[0]}x{found.size[1]} pixels has no patch of {patch}")
    if context.stop_at and patch != context.stop_at:
        raise NotApplicable(f"votes were counted until patches of {context.stop_at} pixels were decided; run without stop_at")
    return found


def _lead(records: pd.DataFrame, ablations: Ablations) -> np.ndarray:
    """By how many votes the first class leads at least: those that were not counted may all be for the second."""
    uncounted = ablations.count - records["votes"]
    return np.asarray(records["votes_first"] - records["votes_second"] - uncounted, dtype=np.int64)


def _right(records: pd.DataFrame) -> np.ndarray:
    return np.asarray(records["vote"] == records["label"], dtype=np.float64)
