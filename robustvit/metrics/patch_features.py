"""What of the variance of patch features position alone explains, over a data set."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted


@metric(
    source="definition; after the artefacts of Yang et al. 2024 (Denoising ViT)", url="https://arxiv.org/abs/2401.02957", unit="%",
    higher_is_better=False, needs=("value_patch_variance", "value_position_residual"),
)  # fmt: skip
def artifact_energy(records: pd.DataFrame) -> Weighted:
    """Share of the variance of patch features over the positions of an image that the mean map of other images explains.

    Of the analysis artifact_energy: 1 − the sum of residuals / the sum of variances, which may be negative. Denominator: the variance of
    all samples of the cell, n. Bootstrap over samples. No reference table.
    """
    residual, variance = (np.asarray(records[name], dtype=np.float64) for name in ("value_position_residual", "value_patch_variance"))

    def share(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(1.0 - (weights @ residual) / (weights @ variance))

    return Weighted(share, high=1.0)
