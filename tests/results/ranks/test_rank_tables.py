"""The ranks of models by the headline numbers of a store, against tests computed here from the answers."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_rel

from robustvit.cli.app import main
from robustvit.metrics.corruption import alexnet
from robustvit.records.store import Store
from robustvit.results.export import export
from robustvit.results.leaderboard import COLUMNS, build_leaderboard
from robustvit.results.ranks.rank_tables import ranks

Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
Right = Mapping[str, np.ndarray]


def by_hand(right: Right, *, counted: bool, sign: int = 1) -> dict[str, tuple[int, int]]:
    """First and last rank of each model from what its samples contribute, of which more is better; sign −1: less."""
    pairs = list(itertools.combinations(right, 2))
    p_values = []
    for a, b in pairs:
        n = min(len(right[a]), len(right[b]))
        change = right[a][:n] - right[b][:n]
        more, less = int((change > 0).sum()), int((change < 0).sum())
        p_values.append(
            (binomtest(more, more + less).pvalue if more + less else 1.0) if counted else ttest_rel(right[a][:n], right[b][:n]).pvalue
        )
    beats = set()
    for place, at in enumerate(np.argsort(p_values, kind="stable")):
        if not p_values[at] < 0.05 / (len(pairs) - place):
            break
        a, b = pairs[at]
        n = min(len(right[a]), len(right[b]))
        beats.add((a, b) if sign * (right[a][:n].mean() - right[b][:n].mean()) > 0 else (b, a))
    return {own: (1 + sum(y == own for _, y in beats), len(right) - sum(x == own for x, _ in beats)) for own in right}


def found(table: pd.DataFrame, number: str) -> dict[str, tuple[int, int]]:
    rows = table[table["number"] == number]
    return {str(row.model): (int(row.rank), int(row.last)) for row in rows.itertuples()}


def drawn(seed: int, shares: Mapping[str, float], n: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    easy = draw.random(n)  # shared by all models, as images are
    return {model: (0.7 * easy + 0.3 * draw.random(n) < share).astype(float) for model, share in shares.items()}


@pytest.mark.parametrize("seed", range(4))
def test_accuracies_are_ranked_by_mcnemar(make_store: Make, answered: Columns, seed: int) -> None:
    right = drawn(seed, {"a": 0.8, "b": 0.74, "c": 0.68, "d": 0.3}, 120)
    store = make_store({(model, "clean", ""): answered(one.astype(bool)) for model, one in right.items()}, metrics=("top1",))
    assert found(ranks(store), "clean top-1") == by_hand(right, counted=True)


def test_a_triple_whose_ties_are_not_transitive_shares_the_first_rank(make_store: Make, answered: Columns) -> None:
    errors = {"a": 0, "b": 7, "c": 14}  # each the first images; 7 that differ have p = 0.016, 5 have 0.06
    cells = {(model, "clean", ""): answered([i >= count for i in range(30)]) for model, count in errors.items()}
    cells |= {(model, "fog", "1"): answered([i >= 10 for i in range(30)]) for model in errors}
    table = ranks(make_store(cells, metrics=("top1", "corruption_error")))
    assert found(table, "clean top-1") == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}
    assert found(table, "fog error") == dict.fromkeys("abc", (1, 3))  # exact ties
    errors = {"a": 0, "b": 5, "c": 10}
    cells = {(model, "clean", ""): answered([i >= count for i in range(30)]) for model, count in errors.items()}
    table = ranks(make_store(cells, name="other", metrics=("top1",)))
    assert found(table, "clean top-1") == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
    assert table["shared"].tolist() == [True, True, False]


def test_mce_is_ranked_by_what_each_image_adds_to_it_and_less_is_better(make_store: Make, answered: Columns) -> None:
    names, draw = list(alexnet()["ce_mean"]), np.random.default_rng(3)
    ce = np.array([alexnet()["ce_mean"][name] for name in names])
    shares = {"a": 0.75, "b": 0.73, "c": 0.4}
    right = {model: draw.random((len(names), 40)) < share for model, share in shares.items()}
    cells = {(model, name, "1"): answered(right[model][at]) for model in shares for at, name in enumerate(names)}
    cells |= {(model, name, level): answered(right[model][at]) for model in shares for at, name in enumerate(names) for level in "2345"}
    table = ranks(make_store(cells, metrics=("top1", "mce_alexnet"), data="imagenet", classes=1000))
    added = {model: (~right[model] / ce[:, None]).mean(axis=0) for model in shares}
    expected = by_hand(added, counted=False, sign=-1)
    assert found(table, "mce_alexnet") == expected == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_models_of_other_sample_counts_are_compared_on_the_images_that_both_have(make_store: Make, answered: Columns) -> None:
    """Of its own 60 images the second model has fewer right than the first of its 20; of the 20 that both have, all."""
    right = {"few": [i >= 12 for i in range(20)], "many": [i < 20 for i in range(60)]}
    store = make_store({(model, "clean", ""): answered(one) for model, one in right.items()}, metrics=("top1",))
    table = ranks(store)
    assert dict(zip(table["model"], table["value"].round(1), strict=True)) == {"few": 40.0, "many": 33.3}
    assert found(table, "clean top-1") == {"few": (2, 2), "many": (1, 1)}


def test_what_is_incomplete_or_has_no_test_is_not_ranked_and_says_why(make_store: Make, answered: Columns) -> None:
    right = {"a": [True] * 30, "b": [i >= 9 for i in range(30)], "c": [True] * 12}
    cells = {(model, "clean", ""): answered(one) for model, one in right.items()}
    table = ranks(make_store(cells, metrics=("top1", "nll"), asked=30))
    top1, nll = (table[table["number"] == name].set_index("model") for name in ("clean top-1", "nll"))
    assert found(table[table["model"] != "c"], "clean top-1") == {"a": (1, 1), "b": (2, 2)}
    assert top1["reason"].to_dict() == {"a": "", "b": "", "c": "partial"}
    assert top1["among"].fillna(0).tolist() == [2, 2, 0]
    assert nll["reason"].to_dict() == {"a": "no paired test", "b": "no paired test", "c": "partial"}


def test_the_worst_case_over_attacks_is_ranked_by_its_images(make_store: Make, answered: Columns) -> None:
    place = np.arange(60)
    right = {
        ("a", "pgd"): place < 48,
        ("a", "square"): place < 46,
        ("b", "pgd"): place < 45,
        ("b", "square"): place >= 15,
        ("c", "pgd"): place < 20,
        ("c", "square"): place < 18,
    }  # one of its attacks fools b on half of the images, on none do both
    cells = {(*key, "1/255"): answered(one, attacked=[True] * 60) for key, one in right.items()}
    table = ranks(make_store(cells, metrics=("robust_accuracy", "worst_case_accuracy")))
    least = {model: (right[model, "pgd"] & right[model, "square"]).astype(float) for model in "abc"}
    assert found(table, "worst case linf 1/255") == by_hand(least, counted=True) == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}


def test_the_command_writes_ranks_and_leaves_the_tidy_leaderboard_alone(
    make_store: Make, answered: Columns, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {(model, "clean", ""): answered([i >= count for i in range(30)]) for model, count in (("a", 0), ("b", 9))}
    store = make_store(cells, metrics=("top1", "nll"))
    for form in ("json", "md"):
        monkeypatch.setattr("sys.argv", ["robustvit", "leaderboard", "--store", str(store.path), "--ranks", "-f", form])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert not leaving.value.code
    text = capsys.readouterr().out
    lines = json.loads(text[: text.index("]") + 1])
    assert [(one["model"], one["rank"], one["reason"]) for one in lines][:2] == [("a", 1, ""), ("b", 2, "")]
    assert {one["rank"] for one in lines if one["reason"]} == {None}
    assert "| clean top-1 ↑ | 1 | 2 |" in text
    board = build_leaderboard(store)
    assert export(board, "csv").splitlines()[0] == ",".join(COLUMNS)
    assert "ranks" in export(board, "md")
