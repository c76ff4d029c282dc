"""How curved and how steep the loss is around a model's weights, and how much the model stretches its input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from robustvit.metrics.insides.sides import Side, of_sides
from robustvit.metrics.insides.similarity import by_group
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Clustered


@metric(
    source="Park and Kim 2022, How Do Vision Transformers Work?", url="https://arxiv.org/abs/2202.06709", family="insides", unit="",
    descriptive=True, needs=("group", "value_clean_eigenvalue", "value_{side}_eigenvalue"),
)  # fmt: skip
def hessian_eigenvalue(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> Clustered:
    """The largest eigenvalue of the Hessian of the loss in the weights: how sharply the loss is curved.

    Of the analysis hessian. side: of clean images or of shifted ones; drift: the latter less the former. Denominator: whole groups of
    images; bootstrap over groups. Neither more nor less is better. No reference table.
    """
    return _of_groups(records, "eigenvalue", side, drift, lambda values: values.max(axis=1))


@metric(
    source="Park and Kim 2022, How Do Vision Transformers Work?", url="https://arxiv.org/abs/2202.06709", family="insides", unit="%",
    descriptive=True, needs=("group", "value_clean_eigenvalue", "value_{side}_eigenvalue"),
)  # fmt: skip
def hessian_negative(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> Clustered:
    """The share of negative ones among the largest eigenvalues in magnitude of the Hessian: how far the loss is from convex.

    Of the analysis hessian. side, drift: as for hessian_eigenvalue. Denominator: whole groups of images; bootstrap over groups. Neither
    more nor less is better. No reference table.
    """
    return _of_groups(records, "eigenvalue", side, drift, lambda values: (values < 0).mean(axis=1))


@metric(
    source="Hutchinson 1990, A stochastic estimator of the trace of the influence matrix", family="insides", unit="",
    url="https://doi.org/10.1080/03610919008812866", descriptive=True, needs=("group", "value_clean_trace", "value_{side}_trace"),
)  # fmt: skip
def hessian_trace(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> Clustered:
    """The trace of the Hessian of the loss in the weights, estimated without bias from random vectors.

    Of the analysis hessian. side, drift: as for hessian_eigenvalue. Denominator: whole groups of images; bootstrap over groups. Neither
    more nor less is better. No reference table.
    """
    return _of_groups(records, "trace", side, drift, lambda values: values)


@metric(
    source="Li et al. 2018, Visualizing the Loss Landscape of Neural Nets (the figure; its summary is ours)", family="insides",
    url="https://arxiv.org/abs/1712.09913", unit="nats", descriptive=True,
    needs=("value_clean_landscape", "value_{side}_landscape"),
)  # fmt: skip
def landscape_rise(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """How much higher the loss is around a model's weights than at them, averaged over the plane that was measured.

    Of the analysis landscape. side: of clean images or of shifted ones; drift: the latter less the former. Denominator: all samples of the
    cell, n. Bootstrap over samples, paired. Neither more nor less is better. No reference table.
    """

    def rise(values: np.ndarray) -> np.ndarray:
        return np.asarray(values.mean(axis=1) - values[:, values.shape[1] // 2])

    return _of_samples(records, "landscape", side, drift, rise)


@metric(
    source="Chen et al. 2022, Auto-scaling Vision Transformers without Training (of an initialisation; of a trained model it is ours)",
    url="https://arxiv.org/abs/2202.11921", family="insides", unit="", descriptive=True,
    needs=("value_clean_distortion", "value_{side}_distortion"),
)  # fmt: skip
def length_distortion(records: pd.DataFrame, *, side: Side = "clean", drift: bool = False) -> np.ndarray:
    """How much longer a small circle around an image becomes in the logits; 1 where distances stay what they are.

    Of the analysis length_distortion. side, drift: as for landscape_rise. Denominator: all samples of the cell, n. Bootstrap over samples,
    paired. Neither more nor less is better. No reference table.
    """
    return _of_samples(records, "distortion", side, drift, lambda values: values)


def _of_groups(
    records: pd.DataFrame, name: str, side: Side, drift: bool, of: Callable[[np.ndarray], np.ndarray]
) -> Clustered:  # fmt: skip
    columns = dict.fromkeys(("value_clean_" + name, f"value_{side}_{name}"))
    ids, values = by_group(records, *columns)
    found = dict(zip(columns, values, strict=True))
    return Clustered(ids, of_sides(name, side, drift, lambda column: of(found[column])))


def _of_samples(
    records: pd.DataFrame, name: str, side: Side, drift: bool, of: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:  # fmt: skip
    return of_sides(name, side, drift, lambda column: of(np.stack(records[column].tolist()).astype(np.float64)))
