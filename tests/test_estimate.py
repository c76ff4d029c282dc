"""How an estimate is told to people."""

from __future__ import annotations

import pytest

from robustvit.estimate import Estimate


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "1 second "), (1.4, "1 second "), (1.6, "2 seconds "), (89, "89 seconds "), (90, "1.5 minutes "), (5400, "1.5 hours ")],
)
def test_seconds_are_told_in_the_largest_unit_and_one_second_is_singular(seconds: float, told: str) -> None:
    assert Estimate(8, 8, seconds, 0, 0).sentence.startswith(f"About {told}on this machine.")
