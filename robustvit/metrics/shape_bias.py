"""Shape or texture: which of the two cues a model follows on images where they conflict (stylized data, cue-conflict)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.spec.registry import metric
from robustvit.statistics.estimates import Weighted


@metric(
    source="Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture",
    url="https://github.com/bethgelab/model-vs-human",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "fact_texture"),
)
def shape_bias(records: pd.DataFrame) -> Weighted:
    """Among predictions of the shape or the texture, the share of the shape. About 96 for people.

    Denominator: the images whose shape and texture differ and whose prediction is one of the two, n; undefined where there is none. The
    share hides how rare such predictions are: read it beside shape_decisions and texture_decisions. Bootstrap interval. No reference table.
    """
    shape, texture = _decisions(records)
    if not (shape | texture).any():
        raise NotApplicable("no prediction is the shape or the texture of an image where they differ")
    both = np.stack([shape, shape | texture], axis=1)

    def share(weights: np.ndarray) -> np.ndarray:
        hits, all_of_them = (weights @ both.astype(weights.dtype)).astype(np.float64).T
        return np.asarray(np.divide(hits, all_of_them, out=np.full(len(hits), np.nan), where=all_of_them > 0))

    return Weighted(share, low=0.0, high=1.0, counted=int((shape | texture).sum()))


@metric(
    source="Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture",
    url="https://github.com/bethgelab/model-vs-human",
    unit="%",
    higher_is_better=True,
    needs=("label", "pred", "fact_texture"),
)
def shape_decisions(records: pd.DataFrame) -> np.ndarray:
    """Share of the images with a cue conflict for which the prediction is the shape.

    Denominator: the images whose shape and texture differ, 1,200 of the release's 1,280. (The authors' code divides by all; the quotient,
    shape_bias, is the same.) Wilson interval. No reference table.
    """
    return np.where(_conflict(records), _decisions(records).shape, np.nan)


@metric(
    source="Geirhos et al. 2019, ImageNet-trained CNNs are biased towards texture",
    url="https://github.com/bethgelab/model-vs-human",
    unit="%",
    higher_is_better=False,
    needs=("label", "pred", "fact_texture"),
)
def texture_decisions(records: pd.DataFrame) -> np.ndarray:
    """Share of the images with a cue conflict for which the prediction is the texture.

    Denominator: the images whose shape and texture differ, as for shape_decisions. Wilson interval. No reference table.
    """
    return np.where(_conflict(records), _decisions(records).texture, np.nan)


class _Decisions(NamedTuple):
    """(n,) booleans: the prediction is the shape, the texture; neither where the two are one category."""

    shape: np.ndarray
    texture: np.ndarray


def _conflict(records: pd.DataFrame) -> np.ndarray:
    return np.asarray(records["fact_texture"] != records["label"])


def _decisions(records: pd.DataFrame) -> _Decisions:
    conflict, pred = _conflict(records), records["pred"]
    return _Decisions(conflict & np.asarray(pred == records["label"]), conflict & np.asarray(pred == records["fact_texture"]))
