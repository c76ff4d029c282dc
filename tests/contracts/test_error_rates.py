"""The demo's published error rates beside the reference generator's, held to what the reference's images were answered."""

from dataclasses import replace

import error_rates
import numpy as np
import pytest
from error_rates import FIXED, INSIDE, NAMES, OUTSIDE, SAME, SEVERITIES

import robustvit as rv
from robustvit.spec.suite import Part


@pytest.fixture(scope="module")
def golden() -> error_rates.Golden:
    return error_rates.load()


@pytest.fixture(scope="module")
def shown() -> error_rates.Digits:
    return error_rates.digits()


@pytest.fixture(scope="module")
def rows(shown, golden) -> list[error_rates.Row]:
    return error_rates.rows(shown, golden)


def test_no_cell_is_left_out_and_none_is_outside() -> None:
    told = [(line[0], int(line[1]), line[8]) for line in error_rates.told()]
    assert told == [(name, severity, SAME if name in FIXED else INSIDE) for name in NAMES for severity in SEVERITIES]


def test_what_is_kept_is_of_this_demo_and_these_digits(shown, golden) -> None:
    assert tuple(golden.fingerprints) == shown.fingerprints, "the demo or its digits changed: run python tests/error_rates.py"
    assert golden.answers.shape == (len(NAMES), len(SEVERITIES), len(shown.ids))


def test_one_other_error_is_outside_where_nothing_is_drawn() -> None:
    theirs, mine = np.zeros(500, bool), np.zeros(500, bool)
    mine[3] = True
    assert error_rates.compared("contrast", 1, theirs, theirs).found == SAME
    assert error_rates.compared("contrast", 1, theirs, mine).found == OUTSIDE


def test_a_corruption_that_errs_an_eighth_more_is_outside() -> None:
    rng = np.random.default_rng(0)
    theirs, mine, worse = (rng.random(500) < rate for rate in (0.25, 0.25, 0.375))
    assert error_rates.compared("fog", 1, theirs, mine).found == INSIDE
    assert error_rates.compared("fog", 1, theirs, worse).found == OUTSIDE


def test_digits_that_either_side_has_no_image_of_are_not_judged(shown) -> None:
    wanted, images = shown.labels.astype(np.uint8), 255 - shown.images
    wanted[:3], images[2:5] = error_rates.NONE, shown.images[2:5]
    assert error_rates.row("spatter", 1, wanted, images, shown).n == len(shown.ids) - 5


def test_what_is_judged_is_what_a_run_judges(shown, tmp_path) -> None:
    suite = rv.load_suite("imagenet-c")
    chosen = tuple(spec for spec in suite.scenarios if (spec.name, spec.get("severity")) in {("fog", 3), ("snow", 2)})
    rv.run(replace(suite, parts=(Part(suite.data, chosen),)), ["demo"], "digits", store=tmp_path)
    for question, frame in rv.load_records(tmp_path):
        answered = dict(zip(frame["sample"], frame["pred"], strict=True))
        images = error_rates.ours(shown, question.scenario, int(question.severity))
        assert [answered[id] for id in shown.ids] == shown.answers(images).tolist()


@pytest.mark.slow
def test_every_cell_is_as_the_page_tells(rows) -> None:
    for row, line in zip(rows, error_rates.told(), strict=True):
        assert [row.corruption, str(row.severity), row.found] == [line[0], line[1], line[8]]
        assert error_rates.percent(row.reference) == line[3]
