"""Laws over every registered metric: a new one is tested here without being named."""

import inspect
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import MetricUndefined, NotApplicable
from robustvit.metrics.corruption import EXTRA, SEVERITIES, alexnet
from robustvit.metrics.model_vs_human import SETS
from robustvit.spec import registry
from robustvit.spec.ablations import Ablations
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import IntervalEstimate, Metric, resolve_metric
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.metric_context import MetricContext
from robustvit.statistics.resamples import Resampler, Resamples

NAMES = sorted(name for name, entry in registry.entries("metric").items() if not any(param.required for param in entry.params))
PER_CELL = [name for name in NAMES if registry.lookup("metric", name).over == "cell"]
OVER_CELLS = [name for name in NAMES if registry.lookup("metric", name).over in ("corruption", "model")]
DEMANDING = [name for name in OVER_CELLS if any(param.default is None for param in registry.lookup("metric", name).params)]
JOINED = [name for name in OVER_CELLS if name not in DEMANDING]


def records(n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label, pred, confidence = rng.integers(0, 3, n), rng.integers(0, 3, n), rng.uniform(0.4, 1, n).astype(np.float32)
    own = np.where(label == pred, confidence, (1 - confidence) / 2)
    found = pd.DataFrame({
        "sample": [f"s{i // 4}#{i % 4}" for i in range(n)], "against": np.arange(n) % 4 - 1, "label": label, "pred": pred,
        "clean_pred": np.where(rng.random(n) < 0.8, label, 0) * 1.0, "value_fooled_share": rng.random(n),
        "pred_1000way": pred, "pred_mask": pred, "rank_1000way": np.where(label == pred, 1, 7), "value_robust": (label == pred) * 1.0,
        "confidence": confidence, "nll": -np.log(own),
        "brier": (1 - own) ** 2, "margin": own - 0.5, "rank": np.where(label == pred, 1, 2), "attacked": rng.random(n) < 0.8,
        "top5": list(np.stack([pred, 3 + label, 7 + label, 11 + pred, np.full(n, 20)], axis=1)),
        "logits": list(np.log(np.where(np.arange(3) == pred[:, None], confidence[:, None], (1 - confidence[:, None]) / 2))),
        "fact_condition": np.where(np.arange(n) % 3, "c50", "c10"), "fact_counted": 1, "fact_texture": (label + np.arange(n) % 2) % 3,
        "fact_humans": list(np.stack([label, pred, rng.integers(-1, 3, n)], axis=1)),
        "fact_real": [[one] if one < 2 else [] for one in label.tolist()], "linf": np.full(n, 4 / 255), "l2": np.ones(n),
        "l0": np.full(n, 9.0),
        "value_slope_error": rng.uniform(0, 2, n), "gradient": np.where(label, "exact", "straight-through"),
        "value_step_gain": rng.random(n), "value_random_gain": rng.random(n), "value_probability": (label == 1) * 1.0,
        "vote": pred, "votes_first": (half := rng.integers(16, 33, n)), "votes_second": 32 - half,
        "votes_label": np.where(label == pred, half, 32 - half), "votes": 32,
        "tokens": 0, "patch_held": half // 3, "radius": confidence, "level": 0.999,
        "value_gmacs": rng.uniform(2, 3, n), "value_tokens": list(rng.integers(40, 198, (n, 12)).astype(np.float32)),
        "value_token_utilisation": rng.random(n), "value_token_iou": rng.random(n),
        "value_shift_consistency": rng.integers(0, 6, n) / 5, "value_shifted_right": rng.integers(0, 11, n) / 10,
        "value_unshifted_agreement": rng.random(n), "value_all_agree": (pred == 1) * 1.0, "value_logit_variance": rng.gamma(2, 0.5, n),
        "value_patch_variance": rng.uniform(1, 2, n), "value_position_residual": rng.uniform(0, 2, n),
        "value_part_agreement": rng.random(n), "value_part_overlap": rng.random(n),
        **{f"value_{side}_{name}": rng.random(n) for side in ("clean", "shifted") for name in ("part_iou", "part_count")},
        **lesions(n, np.random.default_rng(1)), **blocks(n, np.random.default_rng(2)),
        **groups(n, np.random.default_rng(3)),
        **explanations(n, np.random.default_rng(3)),
        "value_target": np.where(rng.random(n) < 0.3, pred, 3), "draws": 10, "draws_right": np.where(label == pred, 8, 3),
    })  # fmt: skip
    return found


def lesions(n: int, rng: np.random.Generator) -> dict[str, list[np.ndarray] | np.ndarray]:
    """The columns of analyses of orders, blocks, channels, heads and positions."""

    def rows(*values: float) -> list[np.ndarray]:
        return [np.array(values, np.float32)] * n

    right = {
        f"value_{name}": list((rng.random((n, count)) < 0.6).astype(np.float32))
        for name, count in (("order_right", 5), ("removed_right", 4), ("subset_right", 7), ("heads_right", 3), ("flip", 6))
    }
    lesioned = {f"value_{name}_{kind}": rng.random(n) for name in ("dropped", "mean", "shuffled") for kind in ("right", "agree", "kl")}
    return right | lesioned | {
        "value_order_distance": rows(0, 1, 1 / 3, 1 / 3, 2 / 3), "value_order_listed": rows(1, 0, 0, 1, 1),
        "value_removed_count": rows(0, 1, 1, 2), "value_subset_size": rows(1, 1, 1, 2, 2, 2, 3), "value_heads_share": rows(0, 0.5, 1),
        "value_position_right": (rng.random(n) < 0.9) * 1.0,
    }  # fmt: skip


def blocks(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """What the analyses of blocks measure of a model of two, of clean images and of shifted ones."""
    sizes = {
        **dict.fromkeys(("distance", "entropy", "nmi", "offset_heads", "prefix"), 2),
        **dict.fromkeys(("diversity", "log_amplitude", "feature_variance"), 5),
        "landscape": 9,
        "near": 2,
        "skip_patches": 4,
        "skip_class": 4,
        "position": 2,
        **dict.fromkeys(("identifiability", "identifiability_patches", "written_attention", "written_mlp"), 2),
    }
    return {f"value_{side}_distortion": rng.gamma(2, 0.5, n) for side in ("clean", "shifted")} | {
        f"value_{side}_{name}": list(rng.random((n, size)).astype(np.float32))
        for side in ("clean", "shifted")
        for name, size in sizes.items()
    }


def groups(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """What is measured of groups of four samples, of a model of two blocks."""
    group = np.arange(n) // 4
    sizes = {"hsic_xy": 4, "hsic_xx": 2, "hsic_yy": 2, "clean_eigenvalue": 5, "shifted_eigenvalue": 5}
    sizes |= {f"{side}_{name}": 2 for side in ("clean", "shifted") for name in ("cluster_purity", "cluster_nmi", "cluster_ari")}
    return {
        "group": group,
        **{f"value_{side}_trace": rng.gamma(2, 3, n // 4 + 1)[group] for side in ("clean", "shifted")},
        **{f"value_{name}": list((0.5 + rng.random((n // 4 + 1, size)))[group].astype(np.float32)) for name, size in sizes.items()},
    }


def explanations(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the analyses of attribution maps measure, of clean images and of shifted ones."""
    names = ("positive_auc", "positive_auc_label", "negative_auc", "negative_auc_label", "hit", "iou", "mass", "selection")
    drift = {"value_spearman": rng.uniform(-1, 1, n), "value_top_iou": rng.random(n), "value_same_answer": (rng.random(n) < 0.8) * 1.0}
    drift["value_selection_rank"] = rng.uniform(-1, 1, n)
    return drift | {f"value_{side}_{name}": rng.random(n) for side in ("clean", "shifted") for name in names}


CONTEXT = MetricContext(classes=1000, ablations=Ablations("columns", 4, 1, (32, 32)))


def cells() -> CellMeans:
    rng, resampler = np.random.default_rng(0), Resampler()
    key = resampler([f"s{i}" for i in range(60)]).key
    asked = [("clean", ""), *((name, severity) for name in (*alexnet()["ce_mean"], *EXTRA) for severity in SEVERITIES)]
    asked += [(name, "1") for name in alexnet()["flip_rate"]]
    asked += [("low_pass", "32"), *((name, "") for name in ("full", "foreground", "background"))]
    asked += [("mixed_same", ""), ("mixed_rand", ""), *((name, "") for name in SETS)]
    asked += [(f"{part}imagenet-{letter}", "") for letter in "aor" for part in ("", "val-of-")]
    return CellMeans("imagenet-c", "imagenet", 1000, {cell: Values(key, (rng.random(60) < 0.5) * 1.0) for cell in asked}, resampler)


def of_all(asked: Metric, errors: CellMeans) -> IntervalEstimate:
    which = ["fog"] if asked.entry.over == "corruption" else []
    return score_means(asked, errors, *which)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_a_source_and_a_denominator(name: str) -> None:
    entry = registry.lookup("metric", name)
    assert entry.source
    assert "Denominator" in inspect.cleandoc(entry.doc)
    assert entry.over in ("cell", "corruption", "model", "attacks")


@pytest.mark.parametrize("name", PER_CELL)
def test_a_metric_does_not_depend_on_the_order_of_rows(name: str) -> None:
    rows = records()
    shuffled = rows.sample(frac=1, random_state=1, ignore_index=True)
    both = [score(resolve_metric(name), table, Resamples(list(table["sample"])), context=CONTEXT) for table in (rows, shuffled)]
    assert both[0] == both[1]


@pytest.mark.parametrize("name", PER_CELL)
def test_a_metric_leaves_its_records_alone_and_reads_what_it_needs(name: str) -> None:
    asked, rows = resolve_metric(name), records()
    needed = rows[["sample", *asked.entry.needs]] if asked.entry.needs else rows
    before = needed.copy(deep=True)
    score(asked, needed, Resamples(list(needed["sample"])), context=CONTEXT)
    pd.testing.assert_frame_equal(needed, before)


@pytest.mark.parametrize("name", PER_CELL)
def test_a_value_is_finite_and_near_its_interval(name: str) -> None:
    value, low, high, n = score(resolve_metric(name), records(), Resamples(list(records()["sample"])), context=CONTEXT)
    assert low <= value <= high
    assert np.isfinite([value, low, high]).all()
    assert 0 < n <= 240


@pytest.mark.parametrize("name", JOINED)
def test_a_joined_metric_lies_in_its_interval(name: str) -> None:
    value, low, high, n = of_all(resolve_metric(name), cells())
    assert low <= value <= high
    assert n == 60


@pytest.mark.parametrize("name", JOINED)
def test_a_joined_metric_refuses_an_incomplete_cell(name: str) -> None:
    whole = cells()
    missing = {cell: None for cell in whole.cells if cell[0] != "clean"}
    with pytest.raises(MetricUndefined, match="lacking"):
        of_all(resolve_metric(name), CellMeans(whole.suite, whole.data, whole.classes, {**whole.cells, **missing}, whole.resampler))


@pytest.mark.parametrize("name", DEMANDING)
def test_a_metric_names_the_parameter_that_it_needs(name: str) -> None:
    with pytest.raises(NotApplicable, match=next(param.name for param in registry.lookup("metric", name).params if param.default is None)):
        of_all(resolve_metric(name), cells())
