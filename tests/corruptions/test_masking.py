"""Masking: counts, positions, and unmasked pixels."""

import pytest
import torch

from robustvit.corruptions import masking


@pytest.mark.parametrize(("fraction", "side"), [(0.0, 0), (0.05, 50), (0.1, 70), (0.2, 100), (0.5, 158), (1.0, 224)])
def test_a_hole_inside_the_image_has_the_side_of_its_share(fraction, side) -> None:
    covered = masking._covered(torch.tensor([[112 - 112 + side // 2]]), side, 224)
    assert covered.sum() == side


@pytest.mark.parametrize(("middle", "first", "last"), [(0, 0, 9), (4, 0, 9), (5, 0, 9), (12, 7, 16), (20, 15, 19), (18, 13, 19)])
def test_a_hole_is_pushed_in_at_the_low_edge_and_cut_off_at_the_high_one(middle, first, last) -> None:
    covered = masking._covered(torch.tensor([[middle]]), 10, 20)[0, 0].nonzero().flatten()
    assert (int(covered[0]), int(covered[-1]), len(covered)) == (first, last, last - first + 1)


def test_holes_are_squares_of_the_fill_and_leave_the_rest_alone(noise_images, draws) -> None:
    images = noise_images(6, 40, 40).clamp(min=1 / 255)
    masked = masking.holes(images, draws(6), fraction=0.1)
    hidden = masked.amax(dim=1) == 0
    rows, columns = hidden.any(dim=2).sum(dim=1), hidden.any(dim=1).sum(dim=1)
    assert torch.equal(hidden.sum(dim=(1, 2)), rows * columns)
    assert int(rows.max()) == 12
    assert torch.equal(masked, torch.where(hidden[:, None], 0.0, images))


def test_more_holes_hide_more(noise_images, draws) -> None:
    images = noise_images(4, 40, 40).clamp(min=1 / 255)
    one, five = ((masking.holes(images, draws(4), fraction=0.05, count=count) == 0).sum() for count in (1, 5))
    assert one < five


@pytest.mark.parametrize(("fraction", "dropped"), [(0.0, 0), (0.1, 19), (0.3, 58), (0.5, 98), (0.7, 137), (1.0, 196)])
def test_the_share_of_the_patches_is_dropped_rounded_down(draws, fraction, dropped) -> None:
    masked = masking.patch_drop(torch.ones(2, 3, 224, 224), draws(2), fraction=fraction)
    patches = masked.unfold(2, 16, 16).unfold(3, 16, 16)
    assert torch.equal(patches.amin(dim=(1, 4, 5)), patches.amax(dim=(1, 4, 5)))
    assert (patches[:, 0, :, :, 0, 0] == 0).sum(dim=(1, 2)).tolist() == [dropped] * 2


def test_a_share_that_is_a_whole_number_of_patches_is_not_one_less(draws) -> None:
    masked = masking.patch_drop(torch.ones(1, 3, 10, 10), draws(1), fraction=0.29, patch=1)
    assert int((masked[:, 0] == 0).sum()) == 29


def test_every_patch_is_dropped_equally_often(draws) -> None:
    masked = masking.patch_drop(torch.ones(2000, 3, 4, 4), draws(2000), fraction=0.25, patch=1)
    assert ((masked[:, 0] == 0).float().mean(dim=0) - 0.25).abs().max() < 0.05


@pytest.mark.parametrize("mask", [masking.holes, masking.patch_drop])
def test_fraction_zero_is_the_identity_and_one_of_the_patches_the_fill(noise_images, draws, mask) -> None:
    images = noise_images()
    assert torch.equal(mask(images, draws(2), fraction=0.0), images)
    assert torch.equal(masking.patch_drop(images, draws(2), fraction=1.0, fill=0.5), torch.full_like(images, 0.5))


@pytest.mark.parametrize(("height", "width", "share"), [(224, 224, 0.5), (9, 12, 0.5), (10, 10, 0.29), (5, 7, 1.0), (6, 6, 0.0)])
def test_the_middle_is_black_and_the_rest_keeps_its_bits(noise_images, draws, height, width, share) -> None:
    images = noise_images(2, height, width).clamp(min=1 / 255)
    down, across = (int(share * size + 1e-9) for size in (height, width))
    top, left = (height - down) // 2, (width - across) // 2
    expected = images.clone()
    expected[:, :, top : top + down, left : left + across] = 0.0
    assert torch.equal(masking.center_occlusion(images, draws(2), side_share=share), expected)


def test_the_middle_112_of_224_pixels_are_filled(draws) -> None:
    filled = masking.center_occlusion(torch.zeros(1, 3, 224, 224), draws(1), side_share=0.5, fill=1.0)
    assert torch.equal(filled[0, 0].nonzero().aminmax(dim=0).min, torch.tensor([56, 56]))
    assert torch.equal(filled[0, 0].nonzero().aminmax(dim=0).max, torch.tensor([167, 167]))
    assert int(filled.sum()) == 3 * 112 * 112
