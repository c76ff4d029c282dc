"""Simulated Records with a known truth, and how often a metric's interval holds it: `python tests/simulated.py [METRIC …]` prints a table.

A population is given by one number, `share`: how often its samples are right (or how often predictions flip, images are far, …). A metric's
truth is its value on the whole population; of a statistic that depends on the number of samples by definition
(`EXPECTED`) its mean over the repeats.
"""

import functools
import math
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import norm

from robustvit.errors import MetricUndefined
from robustvit.metrics.confidence.conformal import class_scores, threshold
from robustvit.metrics.corruption import EXTRA, SEVERITIES, alexnet
from robustvit.metrics.model_vs_human import SETS
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations
from robustvit.spec.parts import in_part
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import Clustered, IntervalEstimate, Metric, Weighted, resolve_metric
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resampler, Resamples

SHARES = (0.02, 0.1, 0.5, 0.9, 0.98)
CLASSES, FRAMES, LARGE = 5, 4, 20_000
CONTEXT = MetricContext(classes=1000, ablations=Ablations("columns", 4, 1, (32, 32)))
RESAMPLER = Resampler()
EXPECTED = (
    "ece", "ece_adaptive", "ood_aupr",
    "ece_classwise", "ece_temperature", "rms_calibration_error", "accuracy_difference", "mean_accuracy_difference",
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


@functools.cache
def _names(n: int, frames: int) -> pd.Series:
    return pd.Series(_ids(n, frames))


def _people(one: Population) -> list[np.ndarray]:
    """Two people, who are right on the same images a little more often than by chance."""
    hits = [np.where(one.rng.random(one.n) < 0.5, one.right, one.rng.random(one.n) < 0.8) for _ in range(2)]
    return list(np.stack([np.where(hit, one.label, -1) for hit in hits], axis=1))


def _logits(one: Population) -> list[np.ndarray]:
    """Of unequal classes, so that sets grow one by one."""
    behind = (np.arange(CLASSES) - one.pred[:, None]) % CLASSES
    shown, rest = one.shown[:, None], (1 - one.shown[:, None]) / (CLASSES - 1)
    return list(np.log(np.where(behind == 0, shown, rest + np.array([0, 0.6, 0.2, -0.2, -0.6])[behind] * np.minimum(rest, shown - rest))))


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


def _each(*factors: float) -> Callable[[Population], list[np.ndarray]]:
    """Whether a sample is right in each of several places, independently, so many times as often as it is by itself."""
    return lambda one: list((one.rng.random((one.n, len(factors))) < one.certain[:, None] * np.array(factors)).astype(np.float32))


def _by_block(entries: int) -> Callable[[Population], list[np.ndarray]]:
    """Lists of numbers from 0 to 1, of which those of one sample are alike."""
    return lambda one: list(one.rng.beta(2 + 6 * one.certain[:, None], 3, (one.n, entries)).astype(np.float32))


def _hsic(entries: int, part: float) -> Callable[[Population], list[np.ndarray]]:
    """Lists of estimates of a covariance in groups, which scatter about it, those of one group alike: groups are of one sample here."""
    return lambda one: list((part * (1 + one.certain[:, None]) * one.rng.normal(1, 0.2, (one.n, entries))).astype(np.float32))


def _alike(*values: float) -> Callable[[Population], list[np.ndarray]]:
    return lambda one: [np.array(values, np.float32)] * one.n


COLUMNS: dict[str, Callable[[Population], object]] = {
    "label": lambda one: one.label, "pred": lambda one: _walk(one) if one.frames > 1 else one.pred, "vote": lambda one: one.pred,
    "pred_1000way": lambda one: one.pred, "pred_mask": lambda one: one.pred, "clean_pred": lambda one: one.label * 1.0,
    "confidence": lambda one: one.shown.astype(np.float32), "logits": _logits, "nll": lambda one: -np.log(one.own),
    "brier": lambda one: (1 - one.own) ** 2 + np.where(one.right, 1 - one.shown, one.shown) ** 2,
    "rank": lambda one: np.where(one.right, 1, 7), "rank_1000way": lambda one: np.where(one.right, 1, 7),
    "attacked": lambda one: np.ones(one.n, bool), "draws": lambda one: np.ones(one.n, int),
    "linf": lambda one: np.full(one.n, 0.01), "l1": lambda one: np.ones(one.n),
    "l2": lambda one: np.ones(one.n), "l0": lambda one: np.full(one.n, 9.0), "top5": _top5,
    "against": lambda one: np.tile(np.arange(one.frames) - 1, one.n),
    "value_robust": lambda one: one.right * 1.0, "value_probability": lambda one: one.right * 1.0,
    "value_slope_error": lambda one: np.where(one.right, 0.9, 0.1), "gradient": lambda one: np.full(one.n, "exact"),
    "value_step_gain": lambda one: np.where(one.right, 0.1, 0.9), "value_random_gain": lambda one: np.full(one.n, 0.5),
    "value_fooled_share": lambda one: one.rng.binomial(49, one.certain) / 49,
    "value_target": lambda one: np.where(one.right, one.pred, (one.pred + 1) % CLASSES),
    "value_gmacs": lambda one: one.rng.normal(3, 0.3, one.n), "value_token_utilisation": lambda one: one.rng.beta(8, 4, one.n),
    "value_tokens": lambda one: list(one.rng.binomial(197, 0.6, (one.n, 12)).astype(np.float32)),
    "value_token_iou": lambda one: one.rng.beta(2, 2, one.n),
    "value_shift_consistency": lambda one: one.rng.binomial(5, one.certain) / 5,
    "value_shifted_right": lambda one: one.rng.binomial(10, one.certain) / 10,
    "value_unshifted_agreement": lambda one: one.rng.binomial(224, one.certain) / 224, "value_all_agree": lambda one: one.right * 1.0,
    "value_logit_variance": lambda one: one.rng.gamma(2, 0.5, one.n),
    "value_order_right": _each(1, 0.9, 0.9, 0.9, 0.5), "value_order_distance": _alike(0, 1, 1 / 3, 1 / 3, 2 / 3),
    "value_order_listed": _alike(1, 0, 0, 1, 1), "value_removed_right": _each(1, 0.9, 0.8, 0.5), "value_removed_count": _alike(0, 1, 1, 2),
    "value_subset_right": _each(0.4, 0.8, 0.8, 0.9, 0.9, 0.9, 1), "value_subset_size": _alike(1, 1, 1, 2, 2, 2, 3),
    "value_heads_right": _each(1, 0.7, 0.3), "value_heads_share": _alike(0, 0.5, 1), "value_flip": _each(0.1, 0.2, 0.3, 0.2, 0.9),
    "value_position_right": lambda one: one.right * 1.0, "value_shuffled_right": lambda one: one.rng.binomial(5, 0.6 * one.certain) / 5,
    "value_shuffled_agree": lambda one: one.rng.binomial(5, one.certain) / 5, "value_shuffled_kl": lambda one: one.rng.gamma(2, 0.5, one.n),
    "group": lambda one: np.arange(one.n), "value_hsic_xy": _hsic(144, 0.8), "value_hsic_xx": _hsic(12, 1.0),
    "value_hsic_yy": _hsic(12, 1.0), "value_clean_eigenvalue": lambda one: list(one.rng.normal(3 * one.certain[:, None], 2, (one.n, 5))),
    "value_clean_trace": lambda one: one.rng.gamma(2, 3, one.n), "value_clean_landscape": _by_block(25),
    "value_clean_near": _by_block(12), "value_clean_skip_patches": _by_block(24), "value_clean_position": _by_block(12),
    "value_clean_cluster_nmi": _by_block(12),
    "value_clean_distortion": lambda one: one.rng.gamma(2, 0.5, one.n),
    "value_clean_distance": _by_block(12), "value_clean_nmi": _by_block(12), "value_clean_entropy": _by_block(12),
    "value_clean_offset_heads": _by_block(12), "value_clean_prefix": _by_block(12), "value_clean_identifiability": _by_block(12),
    "value_clean_diversity": _by_block(25), "value_clean_log_amplitude": _by_block(25), "value_clean_feature_variance": _by_block(25),
    "value_clean_positive_auc": lambda one: one.rng.beta(2, 1 + 6 * one.certain),
    "value_clean_negative_auc": lambda one: one.rng.beta(1 + 6 * one.certain, 2),
    "value_clean_hit": lambda one: one.right * 1.0, "value_clean_iou": lambda one: one.rng.binomial(3, one.certain) / 3,
    "value_clean_mass": lambda one: one.rng.beta(1 + 3 * one.certain, 2),
    "value_clean_selection": lambda one: one.rng.binomial(4, one.certain) / 4,
    "value_selection_rank": lambda one: 2 * one.rng.beta(1 + 6 * one.certain, 2) - 1,
    "value_spearman": lambda one: 2 * one.rng.beta(2 + 6 * one.certain, 3) - 1, "value_top_iou": lambda one: one.rng.beta(2, 2, one.n),
    "value_same_answer": lambda one: (one.rng.random(one.n) < 0.9) * 1.0,
    "value_clean_part_iou": lambda one: one.rng.beta(1 + 8 * one.certain, 2), "value_part_overlap": lambda one: one.rng.beta(1, 1, one.n),
    "value_part_agreement": lambda one: one.rng.binomial(1024, one.certain) / 1024,
    "value_clean_part_count": lambda one: one.rng.binomial(8, one.certain) * 1.0,
    "value_patch_variance": lambda one: 1 + one.rng.gamma(2, 0.5, one.n), "value_position_residual": lambda one: one.certain,
    "value_ood_energy": _energy, "fact_ood": lambda one: np.where(one.outside, "near/a", ""),
    "votes": lambda one: np.full(one.n, 32), "tokens": lambda one: np.zeros(one.n, int),
    "votes_first": lambda one: one.rng.integers(17, 33, one.n), "votes_second": lambda one: np.zeros(one.n, int),
    "votes_label": lambda one: one.rng.binomial(32, one.certain), "patch_held": lambda one: one.rng.integers(2, 12, one.n),
    "radius": lambda one: one.rng.gamma(2, 0.5, one.n), "level": lambda one: np.full(one.n, 0.999),
    "fact_texture": lambda one: np.where(one.rng.random(one.n) < 0.8, (one.label + 1) % CLASSES, one.label),
    "fact_condition": lambda one: np.arange(one.n) % 2, "fact_counted": lambda one: np.ones(one.n, int),
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
    "rms_calibration_error", "shape_bias", "top5_distance", "patch_fooling_rate", "conformal_coverage",
)  # fmt: skip
_QUOTIENTS = (
    "background_retention", "foreground_retention", "background_retention_top5", "foreground_retention_top5", "hf_dependence",
    "factor_error_ratio", "accuracy_gap", "background_gap", "relative_mce_alexnet", "shift_auc",
)  # fmt: skip
_LARGER = {"conformal_set_size": 800, "ece_temperature": 1000, "rms_calibration_error": 800, "mean_error_consistency": 800}
SIZES = dict.fromkeys(_RARE, 400) | dict.fromkeys(_QUOTIENTS, 600) | _LARGER  # samples, where not 100; of metrics over several cells 200
SOURCES: dict[str, dict[str, Callable[[Population], object]]] = {  # columns of a metric that mean something else elsewhere
    "votes_needed": {"votes": _votes_needed}, "abstention": {"pred": lambda one: np.where(one.right, -1, 0)},
}  # fmt: skip
NARROW = {  # shares that a metric is simulated at, where not all: of quotients those whose denominators are not nearly 0; of the NLL
    # not where one sample in a thousand, which 400 samples may lack, has most of its variance; of the RMS calibration error not where
    # almost all right samples are in the most confident bin, which it leaves out
    **dict.fromkeys(("ood_accuracy", "mean_accuracy_difference", "mean_observed_consistency"), (0.02, 0.5, 0.98)),
    "mean_error_consistency": (0.02, 0.5, 0.9),
    "nll": (0.1, 0.5, 0.9, 0.98), "rms_calibration_error": (0.05, 0.1, 0.5, 0.9, 0.98),
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
        return name in CELLS or entry.over == "attacks"
    if not all(not param.required or param.name in given for param in entry.params):
        return False
    return set(resolve_metric({name: given} if given else name).entry.needs) <= set(COLUMNS)


def coverage(name: str, share: float, repeats: int) -> Coverage:
    """The share of `repeats` samples of a population whose interval holds the truth. The seed is a hash of the metric's name."""
    metric = resolve_metric({name: ARGUMENTS[name]} if name in ARGUMENTS else name)
    rng = np.random.default_rng([zlib.crc32(name.encode()), round(1000 * share)])
    truth, draw = (_of_one if metric.entry.over in ("cell", "attacks") else _of_cells)(metric, rng, share)
    drawn = [found for found in (_or_none(draw) for _ in range(repeats)) if found is not None]
    truths = [truth if own is None else own for _, own in drawn]
    if name in EXPECTED:
        truths = [float(np.mean([one.value for one, _ in drawn]))] * len(drawn)
    held = [_holds(one, true) for (one, _), true in zip(drawn, truths, strict=True)]
    return Coverage(float(np.mean(held)), float(np.mean([one.high - one.low for one, _ in drawn])), float(np.mean(truths)))


Drawn = tuple[IntervalEstimate, float | None]
"""An estimate of one sample, and the truth where each sample has its own."""


def _holds(one: IntervalEstimate, truth: float) -> bool:
    slack = 1e-9 + 2e-5 * abs(truth)  # ends are rounded to five digits
    return one.low - slack <= truth <= one.high + slack


def _or_none(draw: Callable[[], Drawn]) -> Drawn | None:
    try:
        return draw()
    except MetricUndefined:
        return None


@dataclass
class Pool:
    """The Records of a large population, from which samples are drawn with replacement, so that its own value is the truth."""

    rows: pd.DataFrame
    frames: int
    values: np.ndarray | None = None

    def drawn(self, rng: np.random.Generator, n: int) -> pd.DataFrame:
        clips = rng.integers(0, len(self.rows) // self.frames, n)
        rows = (clips[:, None] * self.frames + np.arange(self.frames)).reshape(-1)
        found = self.rows.take(rows)
        found["sample"] = _names(n, self.frames).array
        return found.assign(group=np.arange(n)) if "group" in found else found

    def clips(self, metric: Metric, rng: np.random.Generator, n: int) -> Clustered:
        """A metric's values of n clips, computed once for all samples."""
        if self.values is None:
            self.values = metric.of_cell(self.rows, CONTEXT).values
        return Clustered(_ids(n, 1), rng.choice(self.values, n))


def _pool(metric: Metric, rng: np.random.Generator, share: float) -> Pool:
    clips = "against" in metric.entry.needs
    one = Population(rng, share, LARGE // 5 if clips else LARGE, FRAMES if clips else 1)
    rows = _outcomes(one) if metric.entry.over == "attacks" else one.records(metric.entry.needs)
    return Pool(rows.assign(**{column: make(one) for column, make in SOURCES.get(metric.entry.name, {}).items()}), one.frames)


def _outcomes(one: Population) -> pd.DataFrame:
    """Of three attacks, whether each sample is robust: what one of them fools, the others fool more often than by chance."""
    return pd.DataFrame({place: np.where(one.rng.random(one.n) < 0.7, one.right, one.rng.random(one.n) < 0.95) * 1.0 for place in range(3)})


def _of_one(metric: Metric, rng: np.random.Generator, share: float) -> tuple[float, Callable[[], Drawn]]:
    """The truth of a metric of one cell, and what draws a sample."""
    pool, n = _pool(metric, rng, share), SIZES.get(metric.entry.name, 100)
    resamples, nothing = RESAMPLER(_ids(n, pool.frames)), pd.DataFrame(index=range(n * pool.frames))

    def draw() -> Drawn:
        if pool.frames > 1:  # the value of a clip depends on its frames alone
            return score(replace(metric, compute=lambda _: pool.clips(metric, rng, n)), nothing, resamples, RESAMPLER), None
        rows = pool.drawn(rng, n)
        return score(metric, rows, resamples, RESAMPLER, context=CONTEXT), own(rows)

    def own(rows: pd.DataFrame) -> float | None:
        """The truth of the threshold that this sample's calibration part has fitted."""
        if metric.entry.name not in CONDITIONAL:
            return None
        fitted = rows.take(calibration)
        held = scores <= threshold(_of_label(_scores(fitted), fitted["label"]), 0.1)
        return metric.scale * float(np.mean(_of_label(held, pool.rows["label"]) if metric.scale != 1.0 else held.sum(axis=1)))

    if metric.entry.name in CONDITIONAL:
        calibration = np.flatnonzero(in_part(_ids(n, 1), "calibration"))
        scores = _scores(pool.rows)
        return math.nan, draw
    return metric.scale * _plain_value(metric, pool.rows), draw


def _scores(rows: pd.DataFrame) -> np.ndarray:
    return class_scores(softmax(np.stack(rows["logits"].tolist()), axis=1), "lac")


def _of_label(table: np.ndarray, label: pd.Series) -> np.ndarray:
    return np.asarray(table[np.arange(len(table)), np.asarray(label)])


def _plain_value(metric: Metric, rows: pd.DataFrame) -> float:
    result = metric.of_cell(rows, CONTEXT)
    if isinstance(result, IntervalEstimate):
        return result.value
    result = result.values if isinstance(result, Clustered) else result
    if isinstance(result, Weighted):
        return float(result.of(np.ones((1, len(rows))))[0])
    return float(np.nanmean(result))


def _of_cells(metric: Metric, rng: np.random.Generator, share: float) -> tuple[float, Callable[[], Drawn]]:
    """The truth of a metric over several cells, and what draws their samples."""
    n, of, asked = SIZES.get(metric.entry.name, 200), resolve_metric(metric.entry.of), CELLS[metric.entry.name]
    which = ["fog"] if metric.entry.over == "corruption" else []
    latent = _LATENT.get(of.entry.name)
    pool = None if latent else _pool(of, rng, share)
    apart = metric.entry.name in APART
    keys = [RESAMPLER(_ids(n, 1)).key] * len(asked)
    if apart:
        keys = [RESAMPLER([f"{place}/{i}" for i in range(n)]).key for place in range(len(asked))]

    def draw() -> Drawn:
        if latent is None:
            found = _values(of, pool, rng, n, len(asked))
        else:
            common = rng.standard_normal((len(asked) if apart else 1, n))
            found = list(latent(np.sqrt(0.5) * (common + rng.standard_normal((len(asked), n))), share))
        cells = {cell: Values(key, one) for cell, key, one in zip(asked, keys, found, strict=True)}
        return score_means(metric, CellMeans("simulated", "imagenet", 1000, cells, RESAMPLER), *which), None

    if latent is None:
        whole = [np.array([_plain_value(of, pool.rows)])] * len(asked)
    else:
        grid = norm.ppf((np.arange(LARGE) + 0.5) / LARGE)
        whole = list(latent(np.tile(grid, (len(asked), 1)), share))
    cells = {cell: Values(str(len(one)), one) for cell, one in zip(asked, whole, strict=True)}
    return metric.scale * float(metric.compute(CellMeans("simulated", "imagenet", 1000, cells, _Once()), *which)[0]), draw


def _values(of: Metric, pool: Pool, rng: np.random.Generator, n: int, cells: int) -> list[np.ndarray | Weighted]:
    """The values of cells with n samples each."""
    if pool.frames > 1:
        return [pool.clips(of, rng, n).values for _ in range(cells)]
    rows = pool.rows.take(rng.integers(0, LARGE, n * cells))
    return [of.of_cell(rows.iloc[cell * n : (cell + 1) * n], CONTEXT) for cell in range(cells)]


class _Once(Resampler):
    """Of every set of samples the weights of one resample, which draws each once."""

    def of(self, key: str) -> Resamples:
        resamples = Resamples(["s"] * int(key))
        resamples.weights = np.ones((1, int(key)), dtype=np.float32)
        return resamples


def _mistakes(drawn: np.ndarray, share: float) -> np.ndarray:
    harder = 0.4 * np.sin(np.arange(len(drawn)))
    return (drawn < norm.ppf(share) + harder[:, None]).astype(float)


def _confidences(drawn: np.ndarray, share: float) -> np.ndarray:
    """In the first cell those of images of no class, which lie further down the higher `share` is."""
    return np.asarray(norm.cdf(drawn - np.sqrt(2) * norm.ppf(share) * (np.arange(len(drawn)) == 0)[:, None]))


_LATENT = {"error": _mistakes, "top5": _mistakes, "confidence": _confidences}
"""Values of cells, (cells, n), from how hard their samples are, standard normal: who is hard in one cell is hard in the others."""


if __name__ == "__main__":
    chosen = [name for name in sys.argv[1:] if not name.isdigit()] or [name for name in registry.entries("metric") if simulated(name)]
    repeats = next((int(text) for text in sys.argv[1:] if text.isdigit()), 2000)
    for name in chosen:
        found = [coverage(name, share, repeats) for share in NARROW.get(name, SHARES)]
        print(f"{name:28s}", *(f"{100 * one.covered:5.1f} ({one.truth:.3g} ±{one.width / 2:.2g})" for one in found), flush=True)
