"""Errors on images that differ from others of their class in one factor, relative to the error on all (ImageNet-X)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted

Factor = Literal[
    "pose", "background", "pattern", "color", "smaller", "shape", "partial_view", "subcategory", "texture", "larger", "darker",
    "object_blocking", "person_blocking", "style", "brighter", "multiple_objects",
]  # fmt: skip


@metric(
    source="Idrissi et al. 2023, ImageNet-X: Understanding Model Mistakes with Factor of Variation Annotations (ICLR), error ratio",
    url="https://github.com/facebookresearch/imagenetx",
    unit="",
    higher_is_better=False,
    needs=("label", "pred", "fact_pose", "fact_background", "fact_pattern", "fact_color", "fact_smaller", "fact_shape", "fact_partial_view",
           "fact_subcategory", "fact_texture", "fact_larger", "fact_darker", "fact_object_blocking", "fact_person_blocking", "fact_style",
           "fact_brighter", "fact_multiple_objects"),
)  # fmt: skip
def factor_error_ratio(records: pd.DataFrame, *, factor: Factor) -> Weighted:
    """Error on the images with a factor, divided by the error on all annotated images: above 1 the factor makes mistakes more likely.

    Denominator: the annotated images without the prototypes of the classes, 46,110 of val; those with the factor are n. Computed on
    `imagenet?factors=top` (the paper's figures) or `multi`. Undefined where no image has the factor, or none is misclassified. Bootstrap
    interval over samples. No reference table.
    """
    value = np.asarray(records[f"fact_{factor}"])
    wrong, present, annotated = np.asarray(records["pred"] != records["label"]), value == 1, value >= 0
    if not present.any() or not (wrong & annotated).any():
        raise NotApplicable(f"no image {'is misclassified' if present.any() else f'has the factor {factor}'}")
    sums = np.stack([wrong & present, present, wrong & annotated, annotated], axis=1)

    def ratio(weights: np.ndarray) -> np.ndarray:
        hits, of_factor, all_hits, of_all = (weights @ sums.astype(weights.dtype)).astype(np.float64).T
        below = of_factor * all_hits
        return np.asarray(np.divide(hits * of_all, below, out=np.full(len(hits), np.nan), where=below > 0))

    return Weighted(ratio, low=0.0, counted=int(present.sum()))
