"""Accuracy and success under attack: two shares with two denominators, never mixed."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.correctness import correct_share
from robustvit.statistics.metric_context import MetricContext

_IMAGENET_CLASSES = 1000


@metric(source="Croce and Hein 2020 (AutoAttack); Dong et al. 2020", unit="%", higher_is_better=True, needs=("label", "pred", "attacked"))
def robust_accuracy(records: pd.DataFrame) -> np.ndarray:
    """Share of samples classified correctly after the attack.

    Denominator: all samples of the cell, n, including those misclassified before it (they count as misclassified). An upper bound: a
    stronger attack may do more. A model with randomness of its own is attacked under one draw and judged under new ones: each attacked
    sample counts with the share of these under which it is right. Wilson interval; of a random model bootstrap over samples. No reference
    table.
    """
    return np.where(np.asarray(records["attacked"].astype(bool)), correct_share(records), 0.0)


@metric(
    title="robust accuracy, same draw",
    source="definition; Athalye, Carlini and Wagner 2018, section 4.2 (randomised defences)",
    url="https://arxiv.org/abs/1802.00420",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "attacked", "draws"),
    beside="robust_accuracy",
)
def robust_accuracy_same_draw(records: pd.DataFrame) -> np.ndarray:
    """Share of samples that a random model classifies correctly after the attack, under the very draw that the attack met.

    What the attack found by itself, beside robust_accuracy, which judges its images under new draws. Where this is much lower, the attack
    fitted its images to one draw, and one that averages over draws (`eot`) may be stronger under all. Denominator: all samples of the cell,
    n. Only for models with randomness of their own. Wilson interval, over samples. No reference table.
    """
    return np.asarray(records["attacked"].astype(bool) & (records["pred"] == records["label"]), dtype=np.float64)


@metric(
    source="definition; Carlini et al. 2019, On Evaluating Adversarial Robustness (the minimum over attacks, sample by sample)",
    url="https://arxiv.org/abs/1902.06705", unit="%", higher_is_better=True, over="attacks", of="robust_accuracy",
)  # fmt: skip
def worst_case_accuracy(outcomes: pd.DataFrame) -> np.ndarray:
    """Share of samples that no attack of a suite with one norm and radius gets misclassified: the minimum over attacks, sample by sample.

    outcomes: for each attack the value of robust_accuracy by sample. Whatever the gradients that an attack follows: on a compressed model
    its own by a surrogate, those of its host, another model's, or none. The row's `params` say how many samples each of them leaves
    misclassified, the strongest first. Denominator: all samples of the cells, n. An upper bound, as each of its attacks. Wilson interval;
    of a random model bootstrap over samples. No reference table.
    """
    return np.asarray(outcomes.drop(columns="sample", errors="ignore").min(axis=1), dtype=np.float64)


@metric(source="definition", unit="%", higher_is_better=False, needs=("label", "pred", "attacked"))
def attack_success(records: pd.DataFrame) -> np.ndarray:
    """Share of the attacked samples that the attack gets misclassified.

    Denominator: the samples classified correctly when clean, which are the ones attacked; `n` counts them alone. (Counting clean errors as
    successes gives a higher number: 100 − robust_accuracy.) Draws and interval as for robust_accuracy. No reference table.
    """
    return np.where(np.asarray(records["attacked"].astype(bool)), 1.0 - correct_share(records), np.nan)


@metric(
    source="Brendel et al. 2019; Pintor et al. 2021 (robust accuracy over the radius, from nearest adversarial examples)",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "attacked", "linf", "l2", "l1", "l0"),
)
def robust_accuracy_at(
    records: pd.DataFrame, context: MetricContext, *, eps: Annotated[float, Ge(0)], norm: Literal["linf", "l2", "l1", "l0"] = "l2"
) -> np.ndarray:  # fmt: skip
    """Share of correct samples without an adversarial example found within `eps`: a point of a curve over radii, from one run.

    eps: radius in pixel units (l0: pixels); norm: the one it is measured in. Meant for minimum-norm attacks (ddn, fmn, cw, fab_t without
    eps), which search the nearest; it is undefined for an attack with a radius of its own, which does not search nearer. Denominator: all
    samples of the cell, n; samples misclassified when clean count as misclassified. An upper bound: a better attack may find nearer ones.
    Wilson interval. No reference table.
    """
    if context.radius:
        raise NotApplicable(
            f"the attack searched inside {context.radius} only, and not for the nearest example; use ddn, fmn, cw, or fab_t without eps"
        )
    near = (records["pred"] != records["label"]) & (records[norm] <= eps)
    return np.asarray(records["attacked"].astype(bool) & ~near, dtype=np.float64)


@metric(
    source="Gu, Tresp and Qin 2022, Are Vision Transformers Robust to Patch Perturbations? (ECCV), fooling rate",
    url="https://github.com/JindongGu/ViT_Patch_Robustness",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "clean_pred"),
)
def fooling_rate(records: pd.DataFrame) -> np.ndarray:
    """Share of misclassified samples among those classified correctly when clean, for corruptions and attacks alike.

    Denominator: the samples that the `clean` cell of the same model, data, view, transforms, seed and precision has correct; n counts them
    alone, and samples without a clean prediction are left out. The suite, or another in the same store, must have `clean`, too. On an
    attack's cell this is attack_success, in float32 to the sample. Draws and interval as for robust_accuracy. No reference table.
    """
    return np.where(np.asarray(records["clean_pred"] == records["label"]), 1.0 - correct_share(records), np.nan)


@metric(
    source="Gu, Tresp and Qin 2022, Are Vision Transformers Robust to Patch Perturbations? (ECCV), fooling rate over positions",
    url="https://github.com/JindongGu/ViT_Patch_Robustness",
    unit="%",
    higher_is_better=False,
    needs=("value_fooled_share",),
)
def patch_fooling_rate(records: pd.DataFrame) -> np.ndarray:
    """Share of patches that fool the model, over images and all cells of the grid: the probability that a patch at a random place does.

    For adversarial_patch with `position: every`; it is undefined for attacks that try fewer places. Denominator: the attacked samples,
    those correct when clean, each with all its cells; n counts the samples. Bootstrap over samples. No reference table.
    """
    share = np.asarray(records["value_fooled_share"], dtype=np.float64)
    if np.isnan(share).all():
        raise NotApplicable("no sample was attacked in every place; use adversarial_patch with position: every")
    return share


@metric(
    source="Pintor et al. 2023, ImageNet-Patch: A Dataset for Benchmarking Machine Learning Robustness against Adversarial Patches",
    url="https://arxiv.org/abs/2203.04412",
    unit="%",
    higher_is_better=False,
    needs=("pred", "value_target"),
)
def target_success_rate(records: pd.DataFrame, context: MetricContext) -> np.ndarray:
    """Share of samples classified as the target class that the patch on them was made for.

    For the corruption imagenet_patch, whose targets are classes of ImageNet-1k; undefined for data of other classes. Denominator: all
    samples of the cell, n, also those misclassified when clean and those whose label is the target: the `clean` predictions say how many
    are classified so without a patch. Wilson interval. No reference table.
    """
    if context.classes != _IMAGENET_CLASSES:
        raise NotApplicable(
            f"the targets are among the {_IMAGENET_CLASSES:,} classes of ImageNet-1k; the data has {context.classes or 'others'}"
        )
    return np.asarray(records["pred"] == records["value_target"], dtype=np.float64)
