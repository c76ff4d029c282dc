"""Where the levels of an axis lie."""

import pytest

from robustvit.report.axes import readable_labels, spacing


def test_levels_lie_at_their_values() -> None:
    assert spacing(["0", "1", "3", "5"]).places == pytest.approx((0, 0.2, 0.6, 1))
    assert spacing(["224", "256", "384"]).places == pytest.approx((0, 0.2, 1))
    assert spacing(["0", "0.5/255", "1/255", "4/255"]).places == pytest.approx((0, 0.125, 0.25, 1))


def test_more_than_a_decade_is_drawn_on_a_logarithmic_scale() -> None:
    found = spacing(["1", "10", "100"])
    assert (found.places, found.scale) == (pytest.approx((0, 0.5, 1)), "log")
    assert spacing(["1", "10"]).scale == "linear"


def test_zero_lies_before_a_logarithmic_scale_as_far_as_levels_are_apart() -> None:
    found = spacing(["0", "1", "10", "100"])
    assert (found.places, found.note) == (pytest.approx((0, 1 / 3, 2 / 3, 1)), "log scale, 0 apart")


@pytest.mark.parametrize("levels", [["strong", "1", "2"], ["1", "1.0", "2"], ["2", "1", "5"]])
def test_levels_that_are_no_ascending_numbers_are_evenly_spaced(levels: list[str]) -> None:
    assert (spacing(levels).places, spacing(levels).scale) == ((0, 0.5, 1), "even")


def test_a_single_level_lies_in_the_middle() -> None:
    assert spacing(["3"]).places == (0.5,)
    assert spacing([]).places == ()


def test_negative_levels_are_never_on_a_logarithmic_scale() -> None:
    assert spacing(["-1", "1", "100"]).scale == "linear"


def test_labels_that_would_overlap_are_left_out_but_for_the_ends() -> None:
    assert readable_labels(["0", "0.25", "0.5", "8"], [0, 10, 60, 100], 7) == ["0", "", "0.5", "8"]
    assert readable_labels(["1", "2", "100"], [0, 90, 100], 7) == ["1", "", "100"]
