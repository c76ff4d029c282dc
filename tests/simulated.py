"""Simulated Records with a known truth, and how often a metric's interval holds it: `python tests/simulated.py [METRIC …]` prints a table.

A population is given by one number, `share`: how often its samples are right (or how often predictions flip, images are far, …). A metric's
truth is its value on a sample so large that it is the population's; of a statistic that depends on the number of samples by definition
(`EXPECTED`) its mean over the repeats.
"""

import functools
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from robustvit.errors import MetricUndefined
from robustvit.metrics.corruption import EXTRA, SEVERITIES, alexnet
from robustvit.metrics.model_vs_human import SETS
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations
from robustvit.spec.parts import in_part
from robustvit.statistics.cell_means import CellMeans, Values, score_means, values_of
from robustvit.statistics.estimates import Clustered, IntervalEstimate, Metric, Weighted, resolve_metric, score
from robustvit.statistics.intervals import Resampler
from robustvit.statistics.metric_context import MetricContext

SHARES = (0.02, 0.1, 0.5, 0.9, 0.98)
CLASSES, FRAMES, LARGE = 5, 4, 20_000
CONTEXT = MetricContext(ablations=Ablations("columns", 4, 1, (32, 32)))
RESAMPLER = Resampler()
EXPECTED = (
    "ece", "ece_adaptive", "ece_classwise", "ece_temperature", "rms_calibration_error", "accuracy_difference", "mean_accuracy_difference",
)  # fmt: skip


@dataclass
class Population:
    """n samples of a population, drawn once; columns of their Records follow from what is drawn here."""

    rng: np.random.Generator
    share: float
    n: int
    frames: int = 1
    certain: np.ndarray = field(init=False)
    right: np.ndarray = field(init=False)
    shown: np.ndarray = field(init=False)
    label: np.ndarray = field(init=False)
    pred: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng, rows = self.rng, self.n * self.frames
        self.certain = rng.beta(4 * self.share, 4 * (1 - self.share), rows)
        self.right = rng.random(rows) < self.certain
        self.shown = np.clip(self.certain**0.7, 0.21, 1 - 1e-6)  # too confident
        self.label = rng.integers(0, CLASSES, rows)
        self.pred = np.where(self.right, self.label, (self.label + rng.integers(1, CLASSES, rows)) % CLASSES)

    @property
    def own(self) -> np.ndarray:
        """The probability of the label."""
        return np.where(self.right, self.shown, (1 - self.shown) / (CLASSES - 1))

    @functools.cached_property
    def flips(self) -> np.ndarray:
        """(n, frames) whether a prediction changes; clips differ."""
        each = self.rng.beta(4 * self.share, 4 * (1 - self.share), (self.n, 1))
        return self.rng.random((self.n, self.frames)) < each

    @functools.cached_property
    def outside(self) -> np.ndarray:
        """(n,) whether an image is of no class: a third are."""
        return np.arange(self.n) % 3 == 0

    def records(self, needs: Sequence[str]) -> pd.DataFrame:
        """The Records with these columns."""
        names = dict.fromkeys(("label", "pred", *needs))
        return pd.DataFrame({"sample": _ids(self.n, self.frames), **{name: COLUMNS[name](self) for name in names}})


@functools.cache
def _ids(n: int, frames: int) -> list[str]:
    width = len(str(n))
    return [f"s{i:0{width}d}" + (f"#{frame}" if frames > 1 else "") for i in range(n) for frame in range(frames)]


def _people(one: Population) -> list[np.ndarray]:
    """Two people, who are right on the same images a little more often than by chance."""
    hits = [np.where(one.rng.random(one.n) < 0.5, one.right, one.rng.random(one.n) < 0.8) for _ in range(2)]
    return list(np.stack([np.where(hit, one.label, -1) for hit in hits], axis=1))


def _logits(one: Population) -> list[np.ndarray]:
    return list(np.log(np.where(np.arange(CLASSES) == one.pred[:, None], one.shown[:, None], (1 - one.shown[:, None]) / (CLASSES - 1))))


def _walk(one: Population) -> np.ndarray:
    return ((one.pred.reshape(one.n, -1)[:, :1] + np.cumsum(one.flips, axis=1)) % CLASSES).reshape(-1)


def _top5(one: Population) -> list[np.ndarray]:
    orders = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [9, 8, 7, 6, 5]])
    return list(orders[(np.where(one.flips, one.rng.integers(1, 3, one.flips.shape), 0)).reshape(-1)])


def _energy(one: Population) -> np.ndarray:
    """Scores of images of no class, which lie further up the higher `share` is."""
    return one.rng.standard_normal(one.n) + np.sqrt(2) * norm.ppf(one.share) * one.outside


def _some(share: float) -> Callable[[Population], np.ndarray]:
    return lambda one: np.where(one.rng.random(one.n) < share, 1, 0)


COLUMNS: dict[str, Callable[[Population], object]] = {
    "label": lambda one: one.label, "pred": lambda one: _walk(one) if one.frames > 1 else one.pred, "vote": lambda one: one.pred,
    "pred_1000way": lambda one: one.pred, "pred_mask": lambda one: one.pred, "clean_pred": lambda one: one.label * 1.0,
    "confidence": lambda one: one.shown.astype(np.float32), "logits": _logits, "nll": lambda one: -np.log(one.own),
    "brier": lambda one: (1 - one.own) ** 2 + np.where(one.right, 1 - one.shown, one.shown) ** 2,
    "rank": lambda one: np.where(one.right, 1, 7), "rank_1000way": lambda one: np.where(one.right, 1, 7),
    "attacked": lambda one: np.ones(one.n, bool), "linf": lambda one: np.full(one.n, 0.01), "l1": lambda one: np.ones(one.n),
    "l2": lambda one: np.ones(one.n), "l0": lambda one: np.full(one.n, 9.0), "top5": _top5,
    "against": lambda one: np.tile(np.arange(one.frames) - 1, one.n),
    "value_robust": lambda one: one.right * 1.0, "value_probability": lambda one: one.right * 1.0,
    "value_slope_error": lambda one: np.where(one.right, 0.9, 0.1), "gradient": lambda one: np.full(one.n, "exact"),
    "value_step_gain": lambda one: np.where(one.right, 0.1, 0.9), "value_random_gain": lambda one: np.full(one.n, 0.5),
    "value_fooled_share": lambda one: one.rng.binomial(49, one.certain) / 49,
    "value_ood_energy": _energy, "fact_ood": lambda one: np.where(one.outside, "near/a", ""),
    "votes": lambda one: np.full(one.n, 32), "tokens": lambda one: np.zeros(one.n, int),
    "votes_first": lambda one: one.rng.integers(17, 33, one.n), "votes_second": lambda one: np.zeros(one.n, int),
    "votes_label": lambda one: one.rng.binomial(32, one.certain), "patch_held": lambda one: one.rng.integers(2, 12, one.n),
    "radius": lambda one: one.rng.gamma(2, 0.5, one.n), "level": lambda one: np.full(one.n, 0.999),
    "fact_texture": lambda one: np.where(one.rng.random(one.n) < 0.8, (one.label + 1) % CLASSES, one.label),
    "fact_condition": lambda one: np.where(np.arange(one.n) % 2, "a", "b"), "fact_counted": lambda one: np.ones(one.n, int),
    "fact_humans": _people, "fact_real": lambda one: [[label] for label in one.label.tolist()],
    **{f"fact_{name}": _some(0.3) for name in (
        "pose", "background", "pattern", "color", "smaller", "shape", "partial_view", "subcategory", "larger", "darker", "object_blocking",
        "person_blocking", "style", "brighter", "multiple_objects")},
}  # fmt: skip


def _votes_needed(one: Population) -> np.ndarray:
    return one.rng.binomial(196, one.certain)


def _graded(*names: str) -> list[tuple[str, str]]:
    return [(name, severity) for name in names for severity in SEVERITIES]


def _same(cells: list[tuple[str, str]], *metrics: str) -> dict[str, list[tuple[str, str]]]:
    return dict.fromkeys(metrics, cells)


FIFTEEN = tuple(alexnet()["ce_mean"])
CELLS: dict[str, list[tuple[str, str]]] = {  # of the metrics over several cells
    **dict.fromkeys(("corruption_error", "severity_auc", "ce_alexnet"), _graded("fog")),
    "mean_corruption_error": _graded("fog", "snow", "frost"), "corruption_auc": [("clean", ""), *_graded("fog", "snow", "frost")],
    **dict.fromkeys(("mce_alexnet", "mean_err_15"), _graded(*FIFTEEN)), "relative_mce_alexnet": [("clean", ""), *_graded(*FIFTEEN)],
    "mean_err_19": _graded(*FIFTEEN, *EXTRA), "hf_dependence": [("clean", ""), ("low_pass", "32")],
    **_same([(name, "1") for name in alexnet()["flip_rate"]], "mean_flip_rate", "mfr_alexnet", "mean_top5_distance", "mt5d"),
    **{f"{part}ground_retention{top}": [(f"{part}ground", ""), ("full", "")] for part in ("back", "fore") for top in ("", "_top5")},
    "background_gap": [("mixed_same", ""), ("mixed_rand", "")], "accuracy_gap": [("imagenet-a", ""), ("val-of-imagenet-a", "")],
    "shift_auc": [("clean", ""), ("imagenet-v2", ""), ("imagenet-sketch", "")],
    **_same([("imagenet-o", ""), ("val-of-imagenet-o", "")], "ood_aupr", "ood_auroc", "ood_fpr95"),
    **_same([(name, "") for name in SETS], "ood_accuracy", "mean_accuracy_difference"),
    **_same([(name, "") for name in SETS], "mean_observed_consistency", "mean_error_consistency"),
}  # fmt: skip
APART = ("accuracy_gap", "background_gap", "shift_auc", "ood_aupr", "ood_auroc", "ood_fpr95")  # cells of different images
ARGUMENTS: dict[str, dict[str, object]] = {
    "accuracy_gap": {"shift": "imagenet-a"}, "mt5d": {"baseline": [[2.0] * 10]}, "certified_accuracy": {"patch": 5},
    "certified_paper": {"patch": 5}, "certified_by_place": {"patch": 5}, "certified_accuracy_l2": {"radius": 0.2},
    **{f"ood_score_{name}": {"score": "energy", "sets": "near"} for name in ("auroc", "aupr", "fpr95")},
    "robust_accuracy_at": {"eps": 2}, "factor_error_ratio": {"factor": "pose"}, "rms_calibration_error": {"beta": 20},
}  # fmt: skip
_RARE = (  # measurements of which a few samples may have most
    "average_certified_radius", "brier", "nll", "largest_patch", "largest_patch_by_place", "confidence", "votes_needed", "aurra", "aurc",
    "error_consistency", "accuracy_difference", "factor_error_ratio", "ece", "ece_adaptive", "ece_classwise", "ece_temperature",
    "rms_calibration_error", "shape_bias", "top5_distance", "patch_fooling_rate", "conformal_coverage", "conformal_set_size",
)  # fmt: skip
_QUOTIENTS = (
    "background_retention", "foreground_retention", "background_retention_top5", "foreground_retention_top5", "hf_dependence",
    "factor_error_ratio", "accuracy_gap", "background_gap", "relative_mce_alexnet", "shift_auc",
)  # fmt: skip
SIZES = dict.fromkeys(_RARE, 400) | dict.fromkeys(_QUOTIENTS, 600)  # samples, where not 100; of metrics over several cells 200
SOURCES: dict[str, dict[str, Callable[[Population], object]]] = {  # columns of a metric that mean something else elsewhere
    "votes_needed": {"votes": _votes_needed}, "abstention": {"pred": lambda one: np.where(one.right, -1, 0)},
}  # fmt: skip
NARROW = {  # shares that a metric is simulated at, where not all: of quotients those whose denominators are not nearly 0; of the NLL
    # not where one sample in a thousand, which 400 samples may lack, has most of its variance
    "nll": (0.1, 0.5, 0.9, 0.98),
    **dict.fromkeys(("background_retention", "foreground_retention", "hf_dependence", "shift_auc"), (0.02, 0.1, 0.5, 0.8)),
    **dict.fromkeys(("background_retention_top5", "foreground_retention_top5", "factor_error_ratio"), (0.2, 0.5, 0.9)),
}  # fmt: skip


CONDITIONAL = ("conformal_coverage", "conformal_set_size")  # of what was fitted on the calibration samples: a truth for each sample


class Coverage(NamedTuple):
    """How often intervals held the truth, and their mean width."""

    covered: float
    width: float
    truth: float


def simulated(name: str) -> bool:
    """Whether there is a population that a metric can be simulated on."""
    entry, given = registry.lookup("metric", name), ARGUMENTS.get(name, {})
    if entry.over != "cell":
        return name in CELLS
    if not all(not param.required or param.name in given for param in entry.params):
        return False
    return set(resolve_metric({name: given} if given else name).entry.needs) <= set(COLUMNS)


def coverage(name: str, share: float, repeats: int) -> Coverage:
    """The share of `repeats` samples of a population whose interval holds the truth. The seed is a hash of the metric's name."""
    metric = resolve_metric({name: ARGUMENTS[name]} if name in ARGUMENTS else name)
    n = SIZES.get(name, 100 if metric.entry.over == "cell" else 200)
    rng = np.random.default_rng([zlib.crc32(name.encode()), round(1000 * share)])
    if name in CONDITIONAL:
        return _conditional(metric, rng, share, n, repeats)
    found = [one for one in (_estimate(metric, rng, share, n) for _ in range(repeats)) if one is not None]
    truth = float(np.mean([one.value for one in found])) if name in EXPECTED else _truth(metric, rng, share)
    slack = 1e-9 + 2e-5 * abs(truth)  # ends are rounded to five digits
    covered = np.mean([one.low - slack <= truth <= one.high + slack for one in found])
    return Coverage(float(covered), float(np.mean([one.high - one.low for one in found])), truth)


def _conditional(metric: Metric, rng: np.random.Generator, share: float, n: int, repeats: int) -> Coverage:
    """Coverage where each sample fits its own threshold: the truth is of many evaluation samples beside its calibration samples."""
    many = Population(rng, share, 6000).records(metric.entry.needs).assign(sample=[f"many/{i}" for i in range(6000)])
    many = many[in_part(many["sample"].tolist(), "evaluation")]
    held, widths, truths = [], [], []
    for _ in range(repeats):
        rows = _records(metric, rng, share, n)
        one = score(metric, rows, RESAMPLER(rows["sample"].tolist()), RESAMPLER, context=CONTEXT)
        fitted = rows[in_part(rows["sample"].tolist(), "calibration")]
        truth = metric.scale * float(np.nanmean(metric.of_cell(pd.concat([fitted, many], ignore_index=True), CONTEXT)))
        held.append(one.low <= truth <= one.high)
        widths.append(one.high - one.low)
        truths.append(truth)
    return Coverage(float(np.mean(held)), float(np.mean(widths)), float(np.mean(truths)))


def _estimate(metric: Metric, rng: np.random.Generator, share: float, n: int) -> IntervalEstimate | None:
    try:
        if metric.entry.over != "cell":
            return score_means(metric, _means(metric, rng, share, n), *_which(metric))
        rows = _records(metric, rng, share, n)
        return score(metric, rows, RESAMPLER(rows["sample"].tolist()), RESAMPLER, context=CONTEXT)
    except MetricUndefined:
        return None


def _truth(metric: Metric, rng: np.random.Generator, share: float) -> float:
    if metric.entry.over != "cell":
        return metric.scale * float(metric.compute(_means(metric, rng, share, LARGE), *_which(metric))[0])
    result = metric.of_cell(_records(metric, rng, share, LARGE), CONTEXT)
    if isinstance(result, IntervalEstimate):
        return metric.scale * result.value
    if isinstance(result, Weighted):
        return metric.scale * float(result.of(np.ones((1, LARGE)))[0])
    return metric.scale * float(np.nanmean(result.values if isinstance(result, Clustered) else result))


def _records(metric: Metric, rng: np.random.Generator, share: float, n: int) -> pd.DataFrame:
    one = Population(rng, share, n, FRAMES if "against" in metric.entry.needs else 1)
    rows = one.records(metric.entry.needs)
    return rows.assign(**{column: make(one) for column, make in SOURCES.get(metric.entry.name, {}).items()})


def _which(metric: Metric) -> list[str]:
    return ["fog"] if metric.entry.over == "corruption" else []


def _means(metric: Metric, rng: np.random.Generator, share: float, n: int) -> CellMeans:
    asked, of = CELLS[metric.entry.name], resolve_metric(metric.entry.of)
    common = rng.standard_normal(n)
    cells: dict[tuple[str, str], Values | None] = {}
    for place, cell in enumerate(asked):
        if metric.entry.name in APART:
            common = rng.standard_normal(n)
        cells[cell] = _values(of, rng, share, n, common, place, apart=metric.entry.name in APART)
    return CellMeans("simulated", "imagenet", 1000, cells, RESAMPLER)


def _values(of: Metric, rng: np.random.Generator, share: float, n: int, common: np.ndarray, place: int, *, apart: bool) -> Values:
    """The values of one cell of several: harder or easier by its place, and hard for the samples that others are hard for."""
    if of.entry.name in ("error", "top5", "confidence"):
        key = RESAMPLER([f"{place if apart else ''}/{i}" for i in range(n)]).key if (n, place if apart else -1) not in _KEYS else ""
        key = _KEYS.setdefault((n, place if apart else -1), key)
        drawn = np.sqrt(0.5) * (common + rng.standard_normal(n))
        if of.entry.name == "confidence":  # of images of no class, which lie further down the higher `share` is
            return Values(key, norm.cdf(drawn - np.sqrt(2) * norm.ppf(share) * (place == 0)))
        return Values(key, (drawn < norm.ppf(share) + 0.4 * np.sin(place)).astype(float))
    one = Population(rng, share, n, FRAMES if "against" in of.entry.needs else 1)
    rows = one.records(of.entry.needs)
    if "against" not in of.entry.needs:
        rows["sample"] = [f"{place}/{name}" for name in rows["sample"]] if n < LARGE else rows["sample"]
    return values_of(of, rows, RESAMPLER(rows["sample"].tolist()), RESAMPLER, context=CONTEXT)


_KEYS: dict[tuple[int, int], str] = {}


if __name__ == "__main__":
    chosen = [name for name in sys.argv[1:] if not name.isdigit()] or [name for name in registry.entries("metric") if simulated(name)]
    repeats = next((int(text) for text in sys.argv[1:] if text.isdigit()), 2000)
    for name in chosen:
        found = [coverage(name, share, repeats) for share in NARROW.get(name, SHARES)]
        print(f"{name:28s}", *(f"{100 * one.covered:5.1f} ({one.truth:.3g} ±{one.width / 2:.2g})" for one in found), flush=True)
