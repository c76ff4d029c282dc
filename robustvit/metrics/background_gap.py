"""The accuracy that remains when only the object, or only its surroundings, is visible (imagenet-boxes)."""

from __future__ import annotations

import numpy as np

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans

_SOURCE = "Ghiasi et al. 2022, What do Vision Transformers Learn? A Visual Exploration (the question)"


@metric(source=_SOURCE, unit="%", higher_is_better=True, over="model", needs=("label", "pred"))
def foreground_retention(means: CellMeans) -> np.ndarray:
    """Accuracy on the objects alone (`foreground`), divided by that on the same images whole (`full`).

    Denominator: the images of imagenet-boxes, the same n in either. 100 where surroundings do not matter. Undefined where no whole image is
    classified correctly. No reference table.
    """
    return _retained(*(1.0 - means.each(["foreground", "full"], [""])))


@metric(source=_SOURCE, unit="%", higher_is_better=False, over="model", needs=("label", "pred"))
def background_retention(means: CellMeans) -> np.ndarray:
    """Accuracy on the surroundings alone (`background`), divided by that on the same images whole (`full`).

    Denominator: the images of imagenet-boxes, the same n in either. 0 where the object alone counts; boxes leave parts of some objects
    outside. Undefined where no whole image is classified correctly. No reference table.
    """
    return _retained(*(1.0 - means.each(["background", "full"], [""])))


@metric(title="foreground retention, top-5", source=_SOURCE, unit="%", higher_is_better=True, over="model", of="top5", needs=("rank",))
def foreground_retention_top5(means: CellMeans) -> np.ndarray:
    """As foreground_retention, of top-5 accuracy.

    Denominator: the images of imagenet-boxes, the same n in either. No reference table.
    """
    return _retained(*means.each(["foreground", "full"], [""]))


@metric(title="background retention, top-5", source=_SOURCE, unit="%", higher_is_better=False, over="model", of="top5", needs=("rank",))
def background_retention_top5(means: CellMeans) -> np.ndarray:
    """As background_retention, of top-5 accuracy.

    Denominator: the images of imagenet-boxes, the same n in either. No reference table.
    """
    return _retained(*means.each(["background", "full"], [""]))


def _retained(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """(1 + R,) quotients, NaN where a resample has no correct prediction. Raises NotApplicable where there is none at all."""
    if whole[0] == 0.0:
        raise NotApplicable("no whole image is classified correctly")
    return np.asarray(np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0.0))
