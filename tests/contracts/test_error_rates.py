"""The demo's published error rates beside the reference generator's, checked against the predictions for the reference's images."""

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
def data() -> error_rates.Digits:
    return error_rates.digits()


@pytest.fixture(scope="module")
def rows(data, golden) -> list[error_rates.Row]:
    return error_rates.rows(data, golden)


def test_no_cell_is_left_out_and_none_is_outside() -> None:
    published = [(line[0], int(line[1]), line[8]) for line in error_rates.published()]
    assert published == [(name, severity, SAME if name in FIXED else INSIDE) for name in NAMES for severity in SEVERITIES]


def test_the_reference_results_are_of_this_demo_and_these_digits(data, golden) -> None:
    assert tuple(golden.fingerprints) == data.fingerprints, "the demo or its digits changed: run python tests/error_rates.py"
    assert golden.predictions.shape == (len(NAMES), len(SEVERITIES), len(data.ids))


def test_one_different_error_is_outside_for_a_deterministic_corruption() -> None:
    theirs, mine = np.zeros(500, bool), np.zeros(500, bool)
    mine[3] = True
    assert error_rates.compared("contrast", 1, theirs, theirs).found == SAME
    assert error_rates.compared("contrast", 1, theirs, mine).found == OUTSIDE


def test_a_corruption_with_an_error_rate_higher_by_an_eighth_is_outside() -> None:
    rng = np.random.default_rng(0)
    theirs, mine, worse = (rng.random(500) < rate for rate in (0.25, 0.25, 0.375))
    assert error_rates.compared("fog", 1, theirs, mine).found == INSIDE
    assert error_rates.compared("fog", 1, theirs, worse).found == OUTSIDE


def test_digits_without_an_image_on_either_side_are_not_scored(data) -> None:
    reference, images = data.labels.astype(np.uint8), 255 - data.images
    reference[:3], images[2:5] = error_rates.NONE, data.images[2:5]
    assert error_rates.row("spatter", 1, reference, images, data).n == len(data.ids) - 5


def test_predictions_are_those_of_a_run(data, tmp_path) -> None:
    suite = rv.load_suite("imagenet-c")
    chosen = tuple(spec for spec in suite.scenarios if (spec.name, spec.get("severity")) in {("fog", 3), ("snow", 2)})
    rv.run(replace(suite, parts=(Part(suite.data, chosen),)), ["demo"], "digits", store=tmp_path)
    for cell, frame in rv.load_records(tmp_path):
        predicted = dict(zip(frame["sample"], frame["pred"], strict=True))
        images = error_rates.ours(data, cell.scenario, int(cell.severity))
        assert [predicted[id] for id in data.ids] == data.predictions(images).tolist()


@pytest.mark.long
@pytest.mark.slow
def test_every_cell_is_as_published(rows) -> None:
    for row, line in zip(rows, error_rates.published(), strict=True):
        assert [row.corruption, str(row.severity), row.found] == [line[0], line[1], line[8]]
        assert error_rates.percent(row.reference) == line[3]
