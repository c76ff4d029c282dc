"""Shape bias and the comparison with people: tables worked by hand, loops over conditions and people, scikit-learn's κ."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from robustvit.data.model_vs_human import stimulus_sets
from robustvit.errors import MissingCells, NotApplicable
from robustvit.metrics import model_vs_human as human
from robustvit.metrics.model_vs_human import (
    SETS,
    accuracy_difference,
    condition_accuracy,
    error_consistency,
    observed_consistency,
)
from robustvit.metrics.shape_bias import shape_bias
from robustvit.spec.registry import lookup
from robustvit.statistics.cell_estimates import score
from robustvit.statistics.cell_means import CellMeans, Values
from robustvit.statistics.estimates import resolve_metric
from robustvit.statistics.mean_intervals import score_means
from robustvit.statistics.resamples import Resampler, Resamples

PAIRED: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy_difference": lambda model, person: float((model.mean() - person.mean()) ** 2),
    "observed_consistency": lambda model, person: float((model == person).mean()),
    "error_consistency": lambda model, person: 1.0 if (model == person).all() else float(cohen_kappa_score(model, person)),
}


def conflict(*answers: tuple[int, int, int]) -> pd.DataFrame:
    """Rows of (shape, texture, prediction)."""
    table = pd.DataFrame(answers, columns=["label", "fact_texture", "pred"])
    return table.assign(sample=[f"s{i:04}" for i in range(len(table))])


def responses(
    right: list[bool], people: list[list[bool]], conditions: list[str] | None = None, counted: list[int] | None = None
) -> pd.DataFrame:
    """Rows of label 0 that the model, and each of the people, got right or wrong."""
    n = len(right)
    given = [[0 if person[i] else (i + 2 * p) % 3 - 1 or 2 for p, person in enumerate(people)] for i in range(n)]  # −1, 1 or 2 where wrong
    return pd.DataFrame({
        "sample": [f"s{i:04}" for i in range(n)], "label": 0, "pred": [0 if one else 3 for one in right],
        "fact_condition": conditions or [""] * n, "fact_counted": counted or [1] * n, "fact_humans": given,
    })  # fmt: skip


def drawn(n: int = 240, people: int = 4, seed: int = 0) -> pd.DataFrame:
    """Rows of three conditions, the first of which does not count; the model and the people err together at times."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    conditions = rng.choice(["0", "1", "2.5"], n)
    right = (hard + 0.5 * rng.random(n) < 0.9).tolist()
    known = [(hard + 0.5 * rng.random(n) < 0.7 + 0.1 * p).tolist() for p in range(people)]
    return responses(right, known, conditions.tolist(), (conditions != "0").astype(int).tolist())


def looped(name: str, rows: pd.DataFrame) -> float:
    """The definition, one condition and one person at a time."""
    found = []
    for condition in sorted(set(rows.loc[rows["fact_counted"] == 1, "fact_condition"])):
        part = rows[rows["fact_condition"] == condition]
        model = np.array([p == y for p, y in zip(part["pred"], part["label"], strict=True)])
        for person in range(len(part["fact_humans"].iloc[0])):
            given = np.array([answers[person] == y for answers, y in zip(part["fact_humans"], part["label"], strict=True)])
            found.append(PAIRED[name](model, given))
    return float(np.mean(found))


def value(name: str, rows: pd.DataFrame) -> float:
    return score(resolve_metric(name), rows, Resamples(list(rows["sample"]))).value


def test_shape_bias_by_hand() -> None:
    rows = conflict((0, 1, 0), (0, 1, 0), (0, 2, 0), (3, 1, 1), (3, 1, 5), (4, 2, 0), (6, 6, 6), (6, 6, 6))
    assert value("shape_bias", rows) == pytest.approx(100 * 3 / 4)
    assert value("shape_decisions", rows) == pytest.approx(100 * 3 / 6)
    assert value("texture_decisions", rows) == pytest.approx(100 * 1 / 6)


def test_decisions_count_the_pictures_in_conflict_alone() -> None:
    rows = conflict((0, 1, 0), (0, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 0))
    assert score(resolve_metric("shape_decisions"), rows, Resamples(list(rows["sample"]))).n == 2


def test_predictions_that_are_never_shape_or_texture_have_no_bias() -> None:
    rows = conflict((0, 1, 5), (2, 3, 5), (4, 4, 4))
    with pytest.raises(NotApplicable, match="no prediction is the shape or the texture"):
        shape_bias(rows)
    assert value("shape_decisions", rows) == value("texture_decisions", rows) == 0.0


def test_pictures_without_conflict_have_no_decisions() -> None:
    for name in ("shape_bias", "shape_decisions", "texture_decisions"):
        with pytest.raises(NotApplicable):
            value(name, conflict((0, 0, 0), (1, 1, 1)))


def test_more_shape_is_better_and_more_texture_is_not() -> None:
    better = {name: lookup("metric", name).higher_is_better for name in ("shape_bias", "shape_decisions", "texture_decisions")}
    assert better == {"shape_bias": True, "shape_decisions": True, "texture_decisions": False}
    less = {name for name in ("accuracy_difference", "mean_accuracy_difference") if not lookup("metric", name).higher_is_better}
    assert less == {"accuracy_difference", "mean_accuracy_difference"}


def test_conditions_weigh_the_same_and_those_that_do_not_count_nothing() -> None:
    rows = responses([True, True, False, True, False, False], [[True] * 6], list("aaabcc"), [1, 1, 1, 1, 0, 0])
    assert value("condition_accuracy", rows) == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert score(resolve_metric("condition_accuracy"), rows, Resamples(list(rows["sample"]))).n == 4
    assert value("condition_accuracy", responses([True, False, False, True], [[True] * 4])) == 50.0


def test_only_conditions_that_do_not_count_have_no_value() -> None:
    rows = responses([True, False], [[True, True]], ["c100", "c100"], [0, 0])
    for ask in (condition_accuracy, accuracy_difference, observed_consistency, error_consistency):
        with pytest.raises(NotApplicable, match="no sample is of a condition that counts"):
            ask(rows)


def test_error_consistency_by_hand() -> None:
    rows = responses([True, True, True, False], [[True, True, False, False]])
    assert value("observed_consistency", rows) == pytest.approx(0.75)
    assert value("accuracy_difference", rows) == pytest.approx(0.25**2)
    assert value("error_consistency", rows) == pytest.approx((0.75 - 0.5) / (1 - 0.5))  # expected: 3/4 · 1/2 + 1/4 · 1/2


def test_opposite_observers_have_the_lowest_consistency() -> None:
    rows = responses([True, False, True, False], [[False, True, False, True]])
    assert (value("observed_consistency", rows), value("error_consistency", rows)) == (0.0, -1.0)


@pytest.mark.parametrize("right", [[True] * 4, [False] * 4, [True, False, True, True]])
def test_equal_observers_have_the_highest_even_where_chance_explains_everything(right: list[bool]) -> None:
    assert value("error_consistency", responses(right, [right])) == 1.0


def test_an_observer_who_never_errs_leaves_nothing_beyond_chance() -> None:
    assert value("error_consistency", responses([True, False, True, False], [[True] * 4])) == 0.0


def test_no_response_in_time_is_a_wrong_response() -> None:
    rows = responses([False, True], [[True, True]])
    rows["fact_humans"] = [[-1], [0]]
    assert value("observed_consistency", rows) == 1.0


@pytest.mark.parametrize("name", list(PAIRED))
@pytest.mark.parametrize("seed", range(5))
def test_averages_are_those_of_a_loop_over_conditions_and_people(name: str, seed: int) -> None:
    rows = drawn(seed=seed)
    assert value(name, rows) == pytest.approx(looped(name, rows), abs=1e-12)


@pytest.mark.parametrize("name", list(PAIRED))
def test_replicates_are_the_metric_of_resampled_rows(name: str) -> None:
    rows = drawn(60)
    weights = Resamples(list(rows["sample"])).weights[:20]
    ours = getattr(human, name)(rows).of(weights)
    again = [looped(name, rows.iloc[np.repeat(np.arange(60), counts.astype(int))]) for counts in weights]
    assert ours == pytest.approx(np.array(again), abs=1e-9)


def test_a_replicate_of_shape_bias_is_that_of_resampled_rows() -> None:
    rng = np.random.default_rng(0)
    rows = conflict(*(tuple(row) for row in rng.integers(0, 3, (40, 3)).tolist()))
    weights = Resamples(list(rows["sample"])).weights[:20]
    again = [shape_bias(rows.iloc[np.repeat(np.arange(40), counts.astype(int))]).of(np.ones((1, 40)))[0] for counts in weights]
    assert shape_bias(rows).of(weights) == pytest.approx(np.array(again), abs=1e-12)


def test_a_resample_without_what_counts_is_left_out_of_the_interval() -> None:
    rows = conflict((0, 1, 0), (0, 1, 1), *[(2, 3, 5)] * 10)
    resamples = Resamples(list(rows["sample"]))
    assert np.isnan(shape_bias(rows).of(resamples.weights)).any()
    found = score(resolve_metric("shape_bias"), rows, resamples)
    assert (found.low, found.value, found.high) == (0.0, 50.0, 100.0)


def test_a_resample_without_a_condition_averages_over_the_others() -> None:
    rows = responses([True, True, False, False], [[True] * 4], ["a", "b", "b", "c"])
    weights = np.array([[0, 2, 2, 0], [4, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    assert condition_accuracy(rows).of(weights) == pytest.approx([0.5, 1.0, 0.5])


def everywhere(name: str, **other: pd.DataFrame | None) -> CellMeans:
    resampler, cells = Resampler(), {}
    for i, stimuli in enumerate(SETS):
        rows = other.get(stimuli.replace("-", "_"), drawn(40 + i, seed=i))
        ids = [] if rows is None else [f"{stimuli}/{one}" for one in rows["sample"]]
        cells[stimuli, ""] = None if rows is None else Values(resampler(ids).key, getattr(human, name)(rows))
    return CellMeans("human-alignment", "model-vs-human", 16, cells, resampler)


@pytest.mark.parametrize(
    ("joint", "of"),
    [
        ("mean_accuracy_difference", "accuracy_difference"), ("mean_observed_consistency", "observed_consistency"),
        ("mean_error_consistency", "error_consistency"),
    ],
)  # fmt: skip
def test_sets_weigh_the_same_whatever_their_size(joint: str, of: str) -> None:
    expected = np.mean([looped(of, drawn(40 + i, seed=i)) for i in range(17)])
    found = score_means(resolve_metric(joint), everywhere(of))
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low < found.value < found.high


def test_accuracy_over_the_sets_is_the_mean_of_theirs() -> None:
    expected = np.mean([value("condition_accuracy", drawn(40 + i, seed=i)) for i in range(17)])
    assert score_means(resolve_metric("ood_accuracy"), everywhere("condition_accuracy")).value == pytest.approx(expected, abs=1e-9)


def test_sets_that_lack_are_named() -> None:
    with pytest.raises(MissingCells, match="15 of 17 cells; lacking edge, cue-conflict"):
        score_means(resolve_metric("mean_error_consistency"), everywhere("error_consistency", edge=None, cue_conflict=None))


def test_a_suite_of_fewer_sets_has_no_average() -> None:
    means = everywhere("condition_accuracy")
    some = {cell: found for cell, found in means.cells.items() if cell[0] != "edge"}
    with pytest.raises(NotApplicable, match="'mine' has 16 of the 17 cells that this average needs; it lacks edge"):
        score_means(resolve_metric("ood_accuracy"), CellMeans("mine", "model-vs-human", 16, some, means.resampler))


def test_the_sets_are_those_of_the_data() -> None:
    assert tuple(stimulus_sets()) == SETS
