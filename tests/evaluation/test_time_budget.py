"""Times as people write them, and the moment they are over."""

from __future__ import annotations

import pytest

from robustvit.errors import BadParameter
from robustvit.evaluation.time_budget import Deadline, seconds


@pytest.mark.parametrize(
    ("written", "length"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400), (".5s", 0.5), (45, 45), (0.25, 0.25)]
)
def test_a_time_is_a_number_and_its_unit(written: str | float, length: float) -> None:
    assert seconds(written) == length


@pytest.mark.parametrize("written", ["", "90", "ten minutes", "10 min", "-5m", "0s", "1h30", "nanh", 0, -1, float("nan"), float("inf")])
def test_what_is_no_time_is_refused_with_the_ones_that_are(written: str | float) -> None:
    with pytest.raises(BadParameter, match=r"--budget is .*; it takes a time .*: 90s, 10m or 2h\."):
        seconds(written)


def test_a_deadline_passes_at_its_second_and_not_before() -> None:
    now = [100.0]
    deadline = Deadline("10s", lambda: now[0])
    now[0] = 109.9
    assert not deadline.passed
    now[0] = 110.0
    assert deadline.passed


def test_without_a_budget_it_never_comes() -> None:
    now = [0.0]
    deadline = Deadline(None, lambda: now[0])
    now[0] = 1e12
    assert not deadline.passed
