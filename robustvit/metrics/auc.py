"""Areas under curves of accuracy: over the severities of a corruption, and over the share of the clean accuracy that shifted data keep."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from robustvit.errors import NotApplicable
from robustvit.metrics.corruption import SEVERITIES
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans


@metric(
    title="area under accuracy over severity of one corruption",
    source="the trapezoidal rule over the curves of Hendrycks and Dietterich 2019, figure 3; robustvit's definition",
    unit="%",
    higher_is_better=True,
    over="corruption",
    needs=("label", "pred"),
)
def severity_auc(errors: CellMeans, corruption: str) -> np.ndarray:
    """Area under accuracy over the severities that the suite has of a corruption, by trapezoids, divided by their range.

    100 is correct everywhere. Severities are taken as the numbers they are (a radius of 8, 16, 32 is not evenly spaced) and the clean
    images are no part of it; see corruption_auc. Denominator: all samples, the same n at every severity; undefined below two severities, or
    where they are no numbers. No reference table.
    """
    levels = {severity: _number(severity, corruption) for severity in errors.severities(corruption)}
    if len(levels) < 2:
        raise NotApplicable(f"a curve takes two severities; suite '{errors.suite}' has {len(levels)} of '{corruption}'")
    ascending = sorted(levels, key=levels.__getitem__)
    accuracy = np.stack([1.0 - errors.of(corruption, [severity]) for severity in ascending])
    return _area(accuracy, np.array([levels[severity] for severity in ascending]))


@metric(
    title="area under accuracy over severity",
    source="the trapezoidal rule over the curves of Hendrycks and Dietterich 2019, figure 3; robustvit's definition",
    unit="%",
    higher_is_better=True,
    over="model",
    needs=("label", "pred"),
)
def corruption_auc(errors: CellMeans) -> np.ndarray:
    """Area under accuracy over severities 0 (clean) to 5, divided by 5, averaged over the corruptions with all five severities.

    The ends of a curve weigh half: it is not 100 − mean_corruption_error. Denominator: all samples, the same n in every cell. No reference
    table.
    """
    graded = [name for name in errors.graded() if tuple(errors.severities(name)) == SEVERITIES]
    if not graded:
        raise NotApplicable(f"suite '{errors.suite}' has no corruption at severities 1 to 5")
    curves = [[1.0 - errors.of("clean", [""])] + [1.0 - errors.of(name, [level]) for level in SEVERITIES] for name in graded]
    return np.asarray(np.mean([_area(np.stack(curve), np.arange(6.0)) for curve in curves], axis=0))


@metric(
    title="area under accuracy over shift",
    source="the area under a performance profile (Dolan and More 2002) of shifted data sets; robustvit's definition",
    url="https://arxiv.org/abs/cs/0102001",
    unit="%",
    higher_is_better=True,
    over="model",
    needs=("label", "pred"),
)
def shift_auc(errors: CellMeans) -> np.ndarray:
    """Area under the share of shifted data sets that keep at least a share t of the clean accuracy, over t from 0 to 1.

    That area is the mean over the sets of min(1, accuracy / clean accuracy). Clean accuracy is that on the validation images of the same
    classes where the suite has them (`val-of-…`), so that a set read among 200 classes is compared in that reading, and on all of them
    otherwise. Denominators: the images of each set, resampled independently; the sets weigh equally. Undefined without a shifted set. No
    reference table.
    """
    sets = [name for name, severity in errors.cells if not severity and name != "clean" and not name.startswith("val-of-")]
    if not sets:
        raise NotApplicable(f"suite '{errors.suite}' has no shifted data set")
    kept = [_kept(1.0 - errors.of(name, [""]), 1.0 - errors.of(_clean(name, errors), [""]), name) for name in sets]
    return np.asarray(np.mean(kept, axis=0))


def _number(severity: str, corruption: str) -> float:
    try:
        return float(Fraction(severity))
    except (ValueError, ZeroDivisionError) as error:
        raise NotApplicable(f"the severity '{severity}' of '{corruption}' is no number") from error


def _area(accuracy: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(points, 1 + R) over (points,) → (1 + R,), divided by the range of the points."""
    steps = np.diff(at)[:, None]
    return np.asarray((steps * (accuracy[1:] + accuracy[:-1]) / 2).sum(axis=0) / (at[-1] - at[0]))


def _clean(name: str, errors: CellMeans) -> str:
    return f"val-of-{name}" if (f"val-of-{name}", "") in errors.cells else "clean"


def _kept(shifted: np.ndarray, clean: np.ndarray, name: str) -> np.ndarray:
    if not clean[0] > 0:
        raise NotApplicable(f"no clean image is classified correctly, so that '{name}' can keep nothing")
    return np.asarray(np.minimum(1.0, np.divide(shifted, clean, out=np.zeros_like(shifted), where=clean > 0)))
