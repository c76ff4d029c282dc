"""Ranks by pairwise tests: against counts over all pairs that are written out here."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from robustvit.results.ranks.rank_intervals import PairedTest, Rank, rank_intervals

Tests = dict[tuple[int, int], PairedTest]


def stepped_down(p_values: Sequence[float]) -> list[bool]:
    """Which hypotheses Holm 1979 rejects at 5 %: the smallest p against 0.05/m, the next against 0.05/(m - 1), until one is not below."""
    left, rejected = sorted(range(len(p_values)), key=lambda at: p_values[at]), [False] * len(p_values)
    while left and p_values[left[0]] < 0.05 / len(left):
        rejected[left.pop(0)] = True
    return rejected


def counted(count: int, tests: Tests, higher: bool) -> list[tuple[int, int]]:
    """The first and the last rank of each model, by looking at every ordered pair."""
    shown = [pair for pair, rejected in zip(tests, stepped_down([one.p for one in tests.values()]), strict=True) if rejected]
    beats = {(a, b) if (tests[a, b].difference > 0) is higher else (b, a) for a, b in shown}
    return [
        (1 + sum((other, own) in beats for other in range(count)), count - sum((own, other) in beats for other in range(count)))
        for own in range(count)
    ]


@pytest.mark.parametrize("seed", range(60))
def test_ranks_are_those_of_counting_every_pair(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count, higher = int(draw.integers(1, 8)), bool(draw.integers(2))
    pairs = [pair for pair in itertools.combinations(range(count), 2) if draw.random() < 0.9]
    tests = {pair: PairedTest(float(draw.normal()), float(draw.random() ** 6)) for pair in pairs}
    found = rank_intervals(count, tests, higher_is_better=higher)
    assert [(one.rank, one.last) for one in found] == counted(count, tests, higher)
    assert [one.shared for one in found] == [[other.rank for other in found].count(one.rank) > 1 for one in found]
    assert all(one.rank <= one.last and one.among == count for one in found)


def test_the_tie_of_a_triple_need_not_be_transitive() -> None:
    tests = {(0, 1): PairedTest(1.0, 0.4), (1, 2): PairedTest(1.0, 0.4), (0, 2): PairedTest(2.0, 0.001)}
    found = rank_intervals(3, tests, higher_is_better=True)
    assert [(one.text, one.span) for one in found] == [("1=", "1 to 2"), ("1=", "1 to 3"), ("2", "2 to 3")]


def test_two_that_both_beat_a_third_leave_the_second_rank_empty() -> None:
    tests = {(0, 1): PairedTest(0.0, 1.0), (0, 2): PairedTest(-9.0, 1e-6), (1, 2): PairedTest(-9.0, 1e-6)}
    assert [one.text for one in rank_intervals(3, tests, higher_is_better=False)] == ["1=", "1=", "3"]
    assert [one.text for one in rank_intervals(3, tests, higher_is_better=True)] == ["2=", "2=", "1"]


def test_the_intervals_hold_all_true_ranks_at_once_in_19_of_20_samples() -> None:
    """Of 6 models, two of them equal, with 60 normal differences each, from 400 samples."""
    draw, truth = np.random.default_rng(0), np.array([0.0, 0.3, 0.3, 0.5, 0.9, 1.0])
    first, last = [1 + int((truth > one).sum()) for one in truth], [int((truth >= one).sum()) for one in truth]
    held = 0
    for _ in range(400):
        values = truth + draw.normal(size=(60, 6))
        tests = {}
        for a, b in itertools.combinations(range(6), 2):
            change = values[:, a] - values[:, b]
            z = change.mean() / (change.std(ddof=1) / np.sqrt(60))
            tests[a, b] = PairedTest(float(change.mean()), float(2 * (1 - _normal(abs(z)))))
        found = rank_intervals(6, tests, higher_is_better=True)
        held += all(one.rank <= x and y <= one.last for one, x, y in zip(found, first, last, strict=True))
    assert held >= 400 * 0.95 - 2 * np.sqrt(400 * 0.95 * 0.05)


def _normal(z: float) -> float:
    from statistics import NormalDist

    return NormalDist().cdf(z)


def test_what_has_no_rank_has_no_text() -> None:
    assert (Rank(reason="partial").text, Rank(reason="partial").span) == ("", "")
