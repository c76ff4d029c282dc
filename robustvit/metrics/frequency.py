"""How much of a model's accuracy depends on high frequencies."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans


@metric(
    title="dependence on high frequencies",
    source="Ghiasi et al. 2022, What do Vision Transformers Learn? A Visual Exploration (the question; the quotient is robustvit's)",
    url="https://arxiv.org/abs/2212.06727",
    unit="%",
    higher_is_better=False,
    over="model",
    needs=("label", "pred"),
)
def hf_dependence(errors: CellMeans, *, radius: Annotated[float, Ge(0)] = 32.0) -> np.ndarray:
    """Share of the clean accuracy lost where only frequencies up to `radius` cycles per image remain: 1 − accuracy / clean accuracy.

    Denominator: all samples, the same n in the cells `clean` and `low_pass`. Negative for a model that is better without high frequencies.
    Undefined where no clean sample is classified correctly, and where the filter changes none of them: images of 32 px have no frequencies
    above 23. No reference table.
    """
    kept = ("low_pass", f"{radius:g}")
    clean = 1.0 - errors.of("clean", [""])
    if clean[0] == 0.0:
        raise NotApplicable("no clean sample is classified correctly")
    low = 1.0 - errors.of(kept[0], [kept[1]])
    before, after = errors.cells["clean", ""], errors.cells[kept]
    if before is not None and after is not None and np.array_equal(np.asarray(before.values), np.asarray(after.values)):
        raise NotApplicable(f"low_pass {kept[1]} changed no prediction between correct and not: the images may have no higher frequency")
    return np.asarray(1.0 - np.divide(low, clean, out=np.full_like(clean, np.nan), where=clean > 0.0))
