"""Where patches lie and what they cover."""

import pytest
import torch

from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws
from robustvit.primitives.patches import (
    best_places,
    max_patches,
    paste,
    patch_mask,
    patch_places,
    random_places,
    refuse_too_many,
    window_sums,
)

IDS = tuple(f"s{i}" for i in range(6))


def apart(at: torch.Tensor, size: int) -> bool:
    """Whether no two of a sample's patches share a pixel, by counting."""
    side = int(at.max()) + size
    for sample in at.tolist():
        counts = torch.zeros(side, side)
        for row, column in sample:
            counts[row : row + size, column : column + size] += 1
        if float(counts.max()) > 1:
            return False
    return True


def test_the_token_grid_of_224_has_196_cells_and_169_when_shifted_by_half() -> None:
    assert len(patch_places(224, 224, 16, 0)) == 196
    moved = patch_places(224, 224, 16, 8)
    assert len(moved) == 169
    assert moved[0].tolist() == [8, 8]
    assert moved[-1].tolist() == [200, 200]


def test_cells_that_do_not_fit_wholly_are_left_out() -> None:
    assert patch_places(7, 10, 3, 0).tolist() == [[0, 0], [0, 3], [0, 6], [3, 0], [3, 3], [3, 6]]
    assert patch_places(7, 10, 3, 1).tolist() == [[1, 1], [1, 4], [1, 7], [4, 1], [4, 4], [4, 7]]


def test_a_grid_is_shifted_by_less_than_a_cell() -> None:
    with pytest.raises(BadParameter, match="offset is 3; a grid of 3 pixels is shifted by 0 to 2, or null"):
        patch_places(7, 10, 3, 3)


def test_anywhere_is_any_pixel() -> None:
    assert len(patch_places(5, 6, 3, None)) == 3 * 4


def test_a_patch_larger_than_the_image_is_refused() -> None:
    for offset in (0, None):
        with pytest.raises(BadParameter, match="no patch of 9x9 pixels fits into images of 8x32"):
            patch_places(8, 32, 9, offset)
    with pytest.raises(BadParameter, match="shifted by 4 fits"):
        patch_places(8, 8, 8, 4)


@pytest.mark.parametrize(("offset", "most"), [(0, 16), (4, 9), (None, 3)])
def test_more_patches_than_there_is_room_for_are_refused(offset: int | None, most: int) -> None:
    refuse_too_many(most, 32, 32, 8, offset)
    with pytest.raises(BadParameter, match=f"there is room for {most}"):
        random_places(Draws(0, "x", IDS), most + 1, 32, 32, 8, offset)


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 3), (9, 7, 2), (6, 12, 3)])
def test_as_many_as_there_is_room_for_fit_even_where_each_takes_the_most_it_can(height: int, width: int, size: int) -> None:
    count = max_patches(height, width, size, None)
    towards_the_middle = -((torch.arange(height)[:, None] - height / 2).square() + (torch.arange(width) - width / 2).square())
    at = best_places(towards_the_middle[None].repeat(2, 1, 1), count, size, None)
    assert at.shape == (2, count, 2)
    assert apart(at, size)


@pytest.mark.parametrize("offset", [0, 4, None])
def test_drawn_patches_do_not_overlap_and_belong_to_their_sample(offset: int | None) -> None:
    draws = Draws(0, "x", IDS)
    at = random_places(draws, 3, 32, 32, 8, offset)
    assert apart(at, 8)
    assert torch.equal(at[2:5], random_places(draws[torch.arange(2, 5)], 3, 32, 32, 8, offset))
    assert len({str(one) for one in at.tolist()}) == len(IDS)


@pytest.mark.parametrize("offset", [0, None])
def test_fewer_patches_are_the_first_of_more(offset: int | None) -> None:
    draws = Draws(0, "x", IDS)
    assert torch.equal(random_places(draws, 3, 32, 32, 8, offset)[:, :2], random_places(draws, 2, 32, 32, 8, offset))


def test_every_cell_is_drawn_about_as_often() -> None:
    at = random_places(Draws(0, "x", [str(i) for i in range(1600)]), 1, 32, 32, 8, 0)[:, 0] // 8
    counts = torch.bincount(at[:, 0] * 4 + at[:, 1], minlength=16)
    assert counts.min() > 60
    assert counts.max() < 140


def test_window_sums_are_those_of_a_loop() -> None:
    scores = Draws(0, "s", ["a", "b"]).normal(7, 9)
    found = window_sums(scores, 3)
    assert found.shape == (2, 5, 7)
    for row, column in ((0, 0), (4, 6), (2, 3)):
        assert torch.allclose(found[:, row, column], scores[:, row : row + 3, column : column + 3].double().sum(dim=(1, 2)))


@pytest.mark.parametrize("offset", [0, 1, None])
def test_the_best_places_are_those_of_a_plain_search(offset: int | None) -> None:
    scores = Draws(0, "s", ["a", "b", "c"]).normal(12, 12)
    found = best_places(scores, 2, 3, offset)
    for image, at in zip(scores.double(), found.tolist(), strict=True):
        left = image.clone()
        score = {
            tuple(one): float(left[one[0] : one[0] + 3, one[1] : one[1] + 3].sum()) for one in patch_places(12, 12, 3, offset).tolist()
        }
        first = max(score, key=score.__getitem__)
        free = {one: value for one, value in score.items() if abs(one[0] - first[0]) >= 3 or abs(one[1] - first[1]) >= 3}
        assert [tuple(one) for one in at] == [first, max(free, key=free.__getitem__)]


def test_a_mask_covers_its_patches_and_pasting_keeps_the_other_bits() -> None:
    images, patches = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7)
    at = torch.tensor([[[0, 0], [3, 4]], [[4, 5], [0, 2]]])
    covered = patch_mask(at, 2, 6, 7)
    expected = torch.zeros(2, 1, 6, 7, dtype=torch.bool)
    for sample, several in enumerate(at.tolist()):
        for row, column in several:
            expected[sample, 0, row : row + 2, column : column + 2] = True
    assert torch.equal(covered, expected)
    pasted = paste(images, patches, covered)
    assert torch.equal(pasted[covered.expand_as(images)], patches[covered.expand_as(images)])
    assert torch.equal(pasted[~covered.expand_as(images)], images[~covered.expand_as(images)])


def test_no_patch_covers_nothing() -> None:
    assert not bool(patch_mask(random_places(Draws(0, "x", IDS), 0, 8, 8, 3, None), 3, 8, 8).any())
