from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from robustvit.errors import NotApplicable
from robustvit.metrics.certified import (
    ablation_accuracy,
    abstention,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_l2,
    certified_by_place,
    certified_paper,
    largest_patch,
    largest_patch_by_place,
    votes_needed,
)
from robustvit.spec.ablations import Ablations
from robustvit.statistics.metric_context import MetricContext


class Votes(NamedTuple):
    rows: pd.DataFrame
    context: MetricContext


def votes(
    first: list[int], second: list[int], *, bands: Ablations | None = None, stop_at: int | None = None, **more: list[int]
) -> Votes:  # fmt: skip
    """Rows of correct predictions by 224 bands of 19 columns, and their context."""
    bands = bands or Ablations("columns", 19, 1, (224, 224))
    rows = {"label": 3, "vote": 3, "votes_first": first, "votes_second": second, "votes": bands.count, "votes_label": first}
    return Votes(pd.DataFrame(rows | more), MetricContext(ablations=bands, stop_at=stop_at))


def test_a_prediction_is_certified_when_it_leads_by_more_than_twice_the_votes_a_patch_can_touch() -> None:
    rows = votes([162, 162, 224], [62, 61, 0])  # a patch of 32 touches 50 bands of 19
    assert certified_accuracy(*rows, patch=32).tolist() == [False, True, True]


def test_certified_and_misclassified_does_not_count() -> None:
    rows = votes([224, 224], [0, 0], label=[3, 4])
    assert certified_accuracy(*rows, patch=32).tolist() == [True, False]
    assert largest_patch(*rows)[1] == 0
    assert certified_paper(*rows, patch=32).tolist() == [True, False]


@pytest.mark.parametrize(("patch", "width", "stride", "exact"), [(32, 19, 10, 6), (32, 19, 5, 11), (39, 19, 10, 7), (32, 37, 10, 8)])
def test_the_published_certificate_is_not_sound(patch: int, width: int, stride: int, exact: int) -> None:
    bands = Ablations("columns", width, stride, (224, 224))
    rows = votes([2 * exact - 1, 2 * exact, 2 * exact + 1], [0, 0, 0], bands=bands)
    assert certified_accuracy(*rows, patch=patch).tolist() == [False, False, True]
    assert certified_paper(*rows, patch=patch).tolist() == [True, True, True]


def test_where_the_formula_is_right_both_agree() -> None:
    rows = votes(list(range(225)), [0] * 225)
    for patch in (5, 23, 32, 39, 150):
        assert certified_accuracy(*rows, patch=patch).tolist() == certified_paper(*rows, patch=patch).tolist()


def test_the_largest_patch_is_the_last_that_holds() -> None:
    rows = votes(list(range(225)), [0] * 225)
    held = np.sum([certified_accuracy(*rows, patch=patch) for patch in range(1, 225)], axis=0)
    assert largest_patch(*rows).tolist() == held.tolist()


def test_votes_that_were_not_counted_may_all_be_for_the_second() -> None:
    rows = votes([163, 162, 160], [0, 0, 0], votes=[163, 162, 200], stop_at=32)  # leads of at least 102, 100 and 136
    assert certified_accuracy(*rows, patch=32).tolist() == [True, False, True]
    assert votes_needed(rows.rows).tolist() == [163, 162, 200]


@pytest.mark.parametrize(
    "compute",
    [
        lambda *votes: certified_accuracy(*votes, patch=16),
        largest_patch,
        ablation_accuracy,
        lambda *votes: certified_paper(*votes, patch=32),
    ],
)
def test_a_cell_that_stopped_at_a_size_certifies_no_other(compute) -> None:
    with pytest.raises(NotApplicable, match="run without stop_at"):
        compute(*votes([100], [0], votes=[163], stop_at=32))


def test_a_patch_larger_than_the_image_has_no_certificate() -> None:
    with pytest.raises(NotApplicable, match="an image of 224x224 pixels has no patch of 225"):
        certified_accuracy(*votes([224], [0]), patch=225)


def test_votes_of_another_kind_have_no_geometry() -> None:
    rows = votes([224], [0])._replace(context=MetricContext())
    with pytest.raises(NotApplicable, match="not of columns, rows, both or blocks"):
        certified_accuracy(*rows, patch=5)


def test_place_by_place_reads_the_stored_size() -> None:
    rows = votes([224, 224, 224], [0, 0, 0], patch_held=[31, 32, 80], label=[3, 3, 4])
    assert certified_by_place(*rows, patch=32).tolist() == [False, True, False]
    assert largest_patch_by_place(rows.rows).tolist() == [31, 32, 0]


def test_ablation_accuracy_is_a_share_of_votes() -> None:
    assert ablation_accuracy(*votes([112, 224], [5, 0], votes_label=[56, 224])).tolist() == [0.25, 1.0]


SMOOTHED = pd.DataFrame({"label": [1, 1, 1, 1], "pred": [1, 1, -1, 2], "radius": [0.5, 0.25, 0.0, 0.9], "level": [0.999] * 4})


def test_a_radius_counts_for_correct_predictions_alone() -> None:
    assert [certified_accuracy_l2(SMOOTHED, radius=r).mean() for r in (0.0, 0.25, 0.3, 0.6)] == [0.5, 0.5, 0.25, 0.0]
    assert average_certified_radius(SMOOTHED).tolist() == [0.5, 0.25, 0.0, 0.0]
    assert abstention(SMOOTHED).tolist() == [0.0, 0.0, 1.0, 0.0]
