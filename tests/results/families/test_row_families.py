"""The family of each row of a leaderboard, from what plug-ins declare."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from robustvit.records.store import Store
from robustvit.results.families.row_families import FAMILIES, compresses, row_families
from robustvit.results.leaderboard import leaderboard
from robustvit.spec import registry

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]


def families_of(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    found = row_families(rows)
    return {(str(row.scenario), str(row.metric)): found[row.Index] for row in rows.itertuples()}


@pytest.fixture
def rows(make_store: Make, answered: Columns) -> pd.DataFrame:
    """Rows of a clean cell, whose columns tests change."""
    return leaderboard(make_store({("a", "clean", ""): answered([True, False])}))


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({"scenario": "clean"}, ""),
        ({"scenario": "fog", "severity": "1"}, "corruption"),
        ({"scenario": "rotation", "severity": "10"}, "geometry"),
        ({"scenario": "imagenet_patch"}, "patch"),
        ({"scenario": "pgd", "params": "norm=linf", "metric": "robust_accuracy"}, "attack"),
        ({"scenario": "pgd", "params": "norm=linf, surrogate=demo", "metric": "robust_accuracy"}, "transfer"),
        ({"scenario": "transfer", "params": "attack=pgd(steps=3), surrogate=demo", "metric": "robust_accuracy"}, "transfer"),
        ({"scenario": "spatial", "metric": "robust_accuracy"}, "geometry"),
        ({"scenario": "worst_shift", "metric": "robust_accuracy"}, "geometry"),
        ({"scenario": "adversarial_patch", "metric": "robust_accuracy"}, "patch"),
        ({"scenario": "universal_patch", "metric": "robust_accuracy"}, "patch"),
        ({"scenario": "columns", "metric": "certified_accuracy(patch=3)"}, "certified"),
        ({"scenario": "gaussian", "metric": "certified_accuracy_l2(radius=1.0)"}, "certified"),
        ({"scenario": "shift_consistency", "metric": "consistency"}, "geometry"),
        ({"scenario": "head_removal", "metric": "removed_heads_accuracy"}, ""),
        ({"scenario": "ood_scores", "metric": "ood_score_auroc"}, ""),
        ({"scenario": "imagenet-a", "data": "imagenet-a"}, "shift"),
        ({"scenario": "near_focus", "severity": "2", "data": "imagenet-3dcc"}, "corruption"),
        ({"scenario": "package.module:attack", "metric": "robust_accuracy"}, "attack"),
        ({"scenario": "clean", "transforms": "quantize(bits=4)"}, "compressed"),
        ({"scenario": "fog", "severity": "1", "transforms": "attention_temperature(temperature=2) → tome(r=8)"}, "compressed"),
        ({"scenario": "fog", "severity": "1", "transforms": "attention_temperature(temperature=2)"}, ""),
    ],
)
def test_a_row_has_the_family_that_its_plug_ins_declare(rows: pd.DataFrame, changes: dict[str, str], family: str) -> None:
    assert row_families(rows.assign(**changes)).tolist() == [family]


def test_a_suite_of_any_name_has_the_same_families(rows: pd.DataFrame) -> None:
    for name in ("imagenet-c", "linf", "anything"):
        assert row_families(rows.assign(scenario="rotation", severity="10", suite=name)).tolist() == ["geometry"]


def test_an_average_has_the_family_of_its_cells(make_store: Make, answered: Columns) -> None:
    metrics = ("top1", "corruption_error", "mean_corruption_error", "robust_accuracy", "worst_case_accuracy")
    of = {"a": ("fog", "snow"), "b": ("rotation", "shift"), "c": ("fog", "rotation")}
    cells = {(model, name, "1"): answered([True, True, False]) for model, names in of.items() for name in names}
    cells |= {("a", name, "1/255"): answered([True, False, False], attacked=[True] * 3) for name in ("pgd", "square")}
    rows = leaderboard(make_store(cells, metrics=metrics))
    families = {model: families_of(rows[rows["model"] == model]) for model in of}
    assert [families[model]["", "mean_corruption_error"] for model in of] == ["corruption", "geometry", "corruption"]
    assert families["a"]["linf 1/255", "worst_case_accuracy"] == "attack"
    assert families["b"]["rotation", "corruption_error"] == "geometry"
    assert [families["c"][name, "corruption_error"] for name in of["c"]] == ["corruption", "geometry"]


def test_compressing_is_what_transforms_declare() -> None:
    assert compresses("quantize(bits=8) → tome(r=8)")
    assert not compresses("image_size(scale=2)")
    assert not compresses("")


def test_every_scenario_that_ships_has_a_family_of_the_table_or_none() -> None:
    for kind in ("corruption", "attack", "certificate"):
        for name in registry.entries(kind):
            columns = {"scenario": [name], "params": [""], "data": ["d"], "base": ["d"], "severity": ["1"], "metric": ["m"], "cell": ["c"]}
            rest = dict.fromkeys(("suite", "model", "transforms", "seed", "precision", "storage", "gradients"), "")
            found = row_families(pd.DataFrame({**columns, **{key: [value] for key, value in rest.items()}})).tolist()
            assert found[0] in FAMILIES or name == "clean", name
