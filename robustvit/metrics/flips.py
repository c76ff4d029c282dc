"""Stability of predictions while an image changes gradually: flip rates and top-5 distances of clips.

Frames are samples; `against` in their Records names the frame of the same clip that each is compared with. No label is used, so a model
that always predicts one class has the best score: read these beside its accuracy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import NotApplicable
from robustvit.metrics.corruption import alexnet, require_imagenet
from robustvit.spec.registry import metric
from robustvit.statistics.cell_means import CellMeans
from robustvit.statistics.estimates import Clustered

_TOP = 5


@metric(source="Hendrycks and Dietterich 2019, section 4.3", unit="%", higher_is_better=False, needs=("pred", "against"))
def flip_rate(records: pd.DataFrame) -> Clustered:
    """FP: how often the prediction on a frame differs from that on the frame that it is compared with.

    Denominator: the clips, n; each is the mean over its comparisons. Noise is compared with the clean first frame, everything else with the
    frame before, by the difficulty. Bootstrap interval over clips. No reference table.
    """
    pairs = _pairs(records)
    return _of_clips(pairs, records["pred"].to_numpy()[pairs.now] != records["pred"].to_numpy()[pairs.then])


@metric(
    title="top-5 distance", source="Hendrycks and Dietterich 2019, section 4.3", unit="", higher_is_better=False, needs=("top5", "against")
)
def top5_distance(records: pd.DataFrame) -> Clustered:
    """T5D: how far the five best classes of a frame have moved in the order of the frame it is compared with, 0 to 15.

    The sum over the five best of the earlier frame of how many of the places 1 to 5 each has lost or gained; beyond the fifth place counts
    as the sixth. Denominator: the clips, n; each is the mean over its comparisons. Bootstrap interval over clips. No reference table.
    """
    pairs = _pairs(records)
    top = np.stack(list(records["top5"])) if len(records) else np.zeros((0, _TOP), dtype=np.int64)
    return _of_clips(pairs, distances(top[pairs.then], top[pairs.now]))


@metric(
    source="Hendrycks and Dietterich 2019, section 4.3",
    unit="%",
    higher_is_better=False,
    over="model",
    of="flip_rate",
    needs=("pred", "against"),
)
def mean_flip_rate(means: CellMeans) -> np.ndarray:
    """mFP: the flip rate averaged over every sequence of the suite, not divided by anything; comparable only within one suite.

    Denominator: the clips, the same n in every sequence, which weigh equally. No reference table.
    """
    return _over_sequences(means)


@metric(
    title="mean flip rate relative to AlexNet",
    source="Hendrycks and Dietterich 2019, section 4.3",
    unit="%",
    higher_is_better=False,
    over="model",
    of="flip_rate",
    needs=("pred", "against"),
)
def mfr_alexnet(means: CellMeans) -> np.ndarray:
    """mFR: the mean over ImageNet-P's ten test sequences at difficulty 1 of their flip rate, divided by AlexNet's. AlexNet has 100.

    Denominator: the clips, the same n in all ten; reference table `alexnet.json`, flip_rate (50,000 clips of the released videos). Defined
    on ImageNet's thousand classes. Compare n and source before comparing with published numbers.
    """
    require_imagenet(means)
    return means.relative(alexnet()["flip_rate"], ["1"])


@metric(
    title="mean top-5 distance",
    source="Hendrycks and Dietterich 2019, section 4.3",
    unit="",
    higher_is_better=False,
    over="model",
    of="top5_distance",
    needs=("top5", "against"),
)
def mean_top5_distance(means: CellMeans) -> np.ndarray:
    """T5D averaged over every sequence of the suite, not divided by anything; comparable only within one suite.

    Denominator: the clips, the same n in every sequence, which weigh equally. No reference table.
    """
    return _over_sequences(means)


@metric(
    title="mean top-5 distance relative to a baseline",
    source="Hendrycks and Dietterich 2019, section 4.3",
    unit="%",
    higher_is_better=False,
    over="model",
    of="top5_distance",
    needs=("top5", "against"),
)
def mt5d(means: CellMeans, *, baseline: tuple[float, ...] | None = None) -> np.ndarray:
    """mT5D: the mean over ImageNet-P's ten test sequences at difficulty 1 of T5D, divided by a baseline's; published ones use AlexNet's.

    AlexNet's T5Ds were never published as text, so none ship here. baseline: ten numbers of yours, as `top5_distance` gives them, in the
    order gaussian_noise, shot_noise, motion_blur, zoom_blur, snow, brightness, translate, rotate, tilt, scale. Denominator: the clips, the
    same n in all ten. Without a baseline: undefined.
    """
    names = list(alexnet()["flip_rate"])
    if baseline is None:
        raise NotApplicable("AlexNet's T5Ds were never published as text; give a baseline of ten numbers (docs/imagenet-c.md)")
    if len(baseline) != len(names) or min(baseline) <= 0:
        raise NotApplicable(f"its baseline takes ten positive numbers, for {', '.join(names)}; it has {len(baseline)}")
    return means.relative(dict(zip(names, baseline, strict=True)), ["1"])


def distances(then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(N,) top-5 distances of (N, 5) class indices, best first; −1 where a model has fewer classes."""
    same = then[:, :, None] == now[:, None, :]
    place = np.where(same.any(axis=2), same.argmax(axis=2), _TOP)
    moved = np.abs(place - np.arange(_TOP)) * (then >= 0)
    return np.asarray(moved.sum(axis=1))


class _Pairs(NamedTuple):
    """Rows that are compared, and the clips they belong to."""

    now: np.ndarray
    then: np.ndarray
    clips: np.ndarray


def _pairs(records: pd.DataFrame) -> _Pairs:
    """Every frame that is compared with one that is there too."""
    named = records["sample"].astype("str").str.rsplit("#", n=1, expand=True)
    clips, frames = named[0], named[1].astype("int64") if len(records) else named.get(1)
    rows = pd.DataFrame({"clip": clips, "frame": frames, "then": np.arange(len(records))})
    compared = pd.DataFrame({"clip": clips, "frame": records["against"].to_numpy(), "now": np.arange(len(records))})
    both = compared[compared["frame"] >= 0].merge(rows, on=["clip", "frame"])
    return _Pairs(both["now"].to_numpy(), both["then"].to_numpy(), both["clip"].to_numpy())


def _of_clips(pairs: _Pairs, values: np.ndarray) -> Clustered:
    if len(values) == 0:
        raise NotApplicable("no frame has the frame that it is compared with")
    means = pd.Series(values, dtype="float64").groupby(pairs.clips, sort=True).mean()
    return Clustered([str(name) for name in means.index], means.to_numpy())


def _over_sequences(means: CellMeans) -> np.ndarray:
    if not means.graded():
        raise NotApplicable(f"suite '{means.suite}' has no sequence")
    return means.mean(means.graded())
