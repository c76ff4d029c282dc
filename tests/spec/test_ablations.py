"""How many ablations a patch touches, against brute force."""

import numpy as np
import pytest

from robustvit.errors import BadParameter
from robustvit.spec.ablations import Ablations


def brute(side: int, width: int, stride: int) -> list[int]:
    """The most bands that a patch of 1 … side pixels touches: every patch at every place, compared with every band, pixel by pixel."""
    bands = np.array([[(pixel - start) % side < width for pixel in range(side)] for start in range(0, side, stride)])
    hit = np.zeros((len(bands), side + 1), dtype=bool)
    found = []
    for patch in range(1, side + 1):
        hit = hit[:, : side - patch + 1] | bands[:, patch - 1 :]
        found.append(int(hit.sum(axis=0).max()))
    return found


def columns(side: int, width: int, stride: int) -> Ablations:
    return Ablations("columns", width, stride, (side, side))


@pytest.mark.slow
@pytest.mark.parametrize("side", range(2, 49))
def test_the_count_is_that_of_brute_force(side: int) -> None:
    for width in range(1, side + 1):
        for stride in range(1, side):
            ours = [columns(side, width, stride).touched(patch) for patch in range(1, side + 1)]
            assert ours == brute(side, width, stride), (width, stride)


@pytest.mark.parametrize(("width", "stride"), [(19, 1), (19, 10), (19, 5), (37, 10), (37, 4), (75, 10), (75, 7), (19, 16)])
def test_the_count_at_224_is_that_of_brute_force(width: int, stride: int) -> None:
    assert [columns(224, width, stride).touched(patch) for patch in range(1, 225)] == brute(224, width, stride)


@pytest.mark.parametrize(
    ("patch", "width", "stride", "exact", "published"), [(32, 19, 10, 6, 5), (32, 19, 5, 11, 10), (39, 19, 10, 7, 6), (32, 37, 10, 8, 7)]
)
def test_the_published_formula_is_too_small_for_some_strides(patch: int, width: int, stride: int, exact: int, published: int) -> None:
    bands = columns(224, width, stride)
    assert (bands.touched(patch), bands.touched_by_formula(patch)) == (exact, published)


def test_the_published_formula_is_too_small_for_blocks_of_75_at_stride_10() -> None:
    squares = Ablations("blocks", 75, 10, (224, 224))
    assert [(squares.touched(patch), squares.touched_by_formula(patch)) for patch in (32, 23)] == [(144, 121), (121, 100)]


@pytest.mark.parametrize("stride", [1, 2, 4, 7, 8, 14, 16])
def test_where_the_stride_divides_the_side_the_published_formula_is_right(stride: int) -> None:
    bands = columns(224, 19, stride)
    patches = [patch for patch in range(1, 225) if patch + 18 <= 224]
    assert [bands.touched(patch) for patch in patches] == [bands.touched_by_formula(patch) for patch in patches]


@pytest.mark.parametrize("kind", ["rows", "both", "blocks"])
@pytest.mark.parametrize(("width", "stride"), [(2, 1), (3, 2), (4, 3), (6, 4)])
def test_other_kinds_and_oblong_images_are_those_of_brute_force(kind: str, width: int, stride: int) -> None:
    every = Ablations(kind, width, stride, (6, 9))  # type: ignore[arg-type]
    window = every.window(np.arange(every.count))
    visible = window.rows[:, :, None] & window.columns[:, None, :]
    for patch in range(1, 7):
        hit = [visible[:, y : y + patch, x : x + patch].any(axis=(1, 2)).sum() for y in range(7 - patch) for x in range(10 - patch)]
        assert every.touched(patch) == max(hit)


def test_a_band_shows_its_pixels_and_wraps_around() -> None:
    shown = columns(6, 3, 2).window([0, 2])
    assert shown.rows.all()
    assert shown.columns.tolist() == [[True, True, True, False, False, False], [True, False, False, False, True, True]]


def test_of_both_the_columns_come_first() -> None:
    shown = Ablations("both", 1, 2, (4, 6)).window([0, 3])
    assert (shown.columns[0].sum(), shown.rows[0].sum()) == (1, 4)
    assert (shown.columns[1].sum(), shown.rows[1].sum()) == (6, 1)


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_the_order_names_each_ablation_once(stride: int) -> None:
    bands = columns(224, 19, stride)
    assert sorted(bands.order().tolist()) == list(range(bands.count))


def test_the_first_few_are_spread_over_the_image() -> None:
    assert columns(8, 2, 1).order().tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


@pytest.mark.parametrize(("width", "stride"), [(0, 1), (9, 1), (2, 0), (2, 8)])
def test_bands_that_do_not_fit_the_image_are_refused(width: int, stride: int) -> None:
    with pytest.raises(BadParameter, match="on images of 8x8 pixels width is 1 to 8 and stride 1 to 7"):
        columns(8, width, stride)


def largest_by_hand(every: Ablations, votes: np.ndarray, classes: int) -> int:
    """The largest patch for which no place, and no rival that gets all touched votes, unseats the first class."""
    window = every.window(np.arange(every.count))
    visible = window.rows[:, :, None] & window.columns[:, None, :]
    first = int(np.bincount(votes, minlength=classes).argmax())
    for patch in range(1, min(every.size) + 1):
        for y in range(every.size[0] - patch + 1):
            for x in range(every.size[1] - patch + 1):
                touched = visible[:, y : y + patch, x : x + patch].any(axis=(1, 2))
                left = np.bincount(votes[~touched], minlength=classes)
                if any(left[rival] + touched.sum() >= left[first] for rival in range(classes) if rival != first):
                    return patch - 1
    return min(every.size)


@pytest.mark.parametrize("kind", ["columns", "rows", "both", "blocks"])
@pytest.mark.parametrize(("width", "stride"), [(2, 1), (3, 2), (4, 3), (1, 1)])
def test_place_by_place_the_largest_patch_is_that_of_brute_force(kind: str, width: int, stride: int) -> None:
    every, chance = Ablations(kind, width, stride, (7, 9)), np.random.default_rng(0)  # type: ignore[arg-type]
    for classes, share in ((2, 0.1), (3, 0.2), (5, 0.3), (3, 0.0)):
        votes = np.where(chance.uniform(size=every.count) < share, chance.integers(0, classes, every.count), 1)
        assert every.largest_patch_by_place(votes, classes) == largest_by_hand(every, votes, classes)


@pytest.mark.parametrize("kind", ["columns", "both", "blocks"])
def test_place_by_place_nothing_is_lost_against_the_count(kind: str) -> None:
    every, chance = Ablations(kind, 3, 2, (20, 20)), np.random.default_rng(1)  # type: ignore[arg-type]
    for share in np.linspace(0.0, 0.6, 30):
        votes = np.where(chance.uniform(size=every.count) < share, chance.integers(0, 4, every.count), 2)
        first, second = np.sort(np.bincount(votes, minlength=4))[::-1][:2]
        by_count = sum(first - second > 2 * every.touched(patch) for patch in range(1, 21))
        assert every.largest_patch_by_place(votes, 4) >= by_count
