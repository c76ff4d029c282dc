"""Anchoring commutes with every circular shift, against norms and rolls of numpy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustvit.primitives.structure.anchoring import FeatureAnchor, ImageAnchor
from robustvit.primitives.structure.canonical_views import view_names
from robustvit.primitives.structure.polyphase import anchors_of_features, anchors_of_images, phase_maps, rolled_to_phase

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(1, 3, 1, 1)
Sides = tuple[int, int]


def anchored(images: Tensor, stride: Sides) -> Tensor:
    """Images of pixels in [0, 1] as an anchor returns them, in its normalisation."""
    made: Tensor = ImageAnchor(stride, MEAN, STD)((images - MEAN) / STD)
    return made


def whole_strides(first: Tensor, second: Tensor, stride: Sides) -> bool:
    """Whether images (C, H, W) differ by a circular shift of whole strides."""
    down, across = range(0, first.shape[1], stride[0]), range(0, first.shape[2], stride[1])
    return any(torch.equal(first.roll(shift, dims=(1, 2)), second) for shift in product(down, across))


def shifts(size: Sides) -> list[Sides]:
    return list(product(range(size[0]), range(size[1])))


def commutes(image: Tensor, stride: Sides) -> bool:
    """Whether anchoring one image (C, H, W) commutes with all of its shifts."""
    every = torch.stack([image.roll(shift, dims=(1, 2)) for shift in shifts((image.shape[1], image.shape[2]))])
    made = anchored(every, stride)
    return all(whole_strides(made[0], one, stride) for one in made.unique(dim=0))


def by_index(images: Tensor, stride: Sides) -> Tensor:
    """Anchoring as the paper's code does: the first phase of the largest norm."""
    squares = phase_maps((255 * images.double()).round(), stride).square().flatten(2).sum(dim=2)
    return rolled_to_phase(images, squares.argmax(dim=1), stride)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 10**6), st.booleans()
)
def test_anchoring_commutes_with_every_shift(stride: Sides, grid: Sides, seed: int, whole: bool) -> None:
    image = noise(seed, 3, stride[0] * grid[0], stride[1] * grid[1])
    assert commutes((image * 255).round() / 255 if whole else image, stride)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4)), st.tuples(st.integers(1, 4), st.integers(1, 3)), st.integers(0, 10**6), st.booleans()
)
def test_the_anchor_is_the_phase_of_the_largest_norm_where_that_is_unique(stride: Sides, grid: Sides, seed: int, whole: bool) -> None:
    image = noise(seed, 1, 3, stride[0] * grid[0], stride[1] * grid[1])
    image = (image * 255).round() / 255 if whole else image
    pixels = image[0].numpy().astype(np.float64)
    norms = {(a, b): np.linalg.norm(pixels[:, a :: stride[0], b :: stride[1]]) for a in range(stride[0]) for b in range(stride[1])}
    (first, largest), *others = sorted(norms.items(), key=lambda item: -item[1])
    if others and others[0][1] > largest * (1 - 1e-7):
        return
    found = anchors_of_images(255 * image, stride)
    assert int(found.phases) == first[0] * stride[1] + first[1]
    assert not bool(found.tied)
    expected = np.roll(image[0].numpy(), (-first[0], -first[1]), axis=(1, 2))
    assert np.array_equal(rolled_to_phase(image, found.phases, stride)[0].numpy(), expected)


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.3, 0.7)])
def test_two_hundred_images_of_two_levels_commute_and_by_index_many_do_not(values: tuple[float, float]) -> None:
    bits = (noise(5, 200, 1, 4, 4) < 0.5).expand(-1, 3, -1, -1)
    images = torch.where(bits, *(torch.tensor(value) for value in values))
    broken = 0
    for image in images:
        assert commutes(image, (2, 2))
        every = torch.stack([image.roll(shift, dims=(1, 2)) for shift in shifts((4, 4))])
        made = by_index(every, (2, 2))
        broken += not all(whole_strides(made[0], one, (2, 2)) for one in made)
    assert broken > 40


def test_ties_between_phases_of_one_content_are_broken_by_the_rest_of_the_image() -> None:
    row = torch.tensor([9.0, 5.0, 9.0, 2.0, 9.0, 1.0, 9.0, 3.0]) / 255  # phases 0 and 2 of 4 have the same content, and other neighbours
    image = row.expand(3, 4, 8)
    assert bool(anchors_of_images(255 * image[None], (4, 4)).tied)
    assert commutes(image, (4, 4))
    made = by_index(torch.stack([image.roll(shift, dims=2) for shift in range(8)]), (4, 4))
    assert not all(whole_strides(made[0], one, (4, 4)) for one in made)


@pytest.mark.parametrize("tile", [(1, 1), (2, 2), (1, 3), (3, 2)])
def test_ties_that_remain_are_shifts_that_leave_the_image_as_it_is(tile: Sides) -> None:
    image = noise(0, 3, *tile).repeat(1, 12 // tile[0], 12 // tile[1])
    for stride in ((4, 4), (6, 3), (2, 4)):
        assert commutes(image, stride)
        tied = stride[0] % tile[0] or stride[1] % tile[1] or tile < stride
        assert bool(anchors_of_images(255 * image[None], stride).tied) is bool(tied)


def test_a_constant_image_stays_as_it_is_and_counts_as_tied() -> None:
    flat = torch.full((2, 3, 8, 8), 0.25)
    anchor = ImageAnchor((4, 4), MEAN, STD)
    normal = (flat - MEAN) / STD
    assert torch.equal(anchor(normal), normal)
    assert anchor.tied.tolist() == [True, True]


def test_norms_are_compared_to_the_last_unit() -> None:
    levels = torch.full((1, 3, 512, 512), 255.0)
    levels[0, 1, 2::4, 1::4] = 254.0  # all phases but (0, 0) have lost a level, far beyond what float32 tells apart
    levels[0, 1, 0, 0] = 254.0
    levels[0, 1, 4, 0] = 254.0
    others = torch.ones(4, 4, dtype=torch.bool)
    others[0, 0] = False
    for a, b in others.nonzero().tolist():
        levels[0, 2, a, b] = 252.0
    found = anchors_of_images(levels, (4, 4))
    exact = phase_maps(levels.long(), (4, 4)).square().flatten(2).sum(dim=2)
    assert int(found.phases) == int(exact.argmax()) == 0
    fine = anchors_of_images(levels - 0.25, (4, 4))  # rounded to parts of a level, exactly
    assert int(fine.phases) == 0
    assert not bool(found.tied)
    assert not bool(fine.tied)


@pytest.mark.parametrize("parts", [1, 2**16], ids=["whole", "fine"])
def test_of_phases_alike_but_for_one_unit_of_one_pixel_it_is_the_larger(parts: int) -> None:
    rng = np.random.default_rng(parts)
    found, expected = [], []
    for _ in range(12):
        content = rng.integers(200 * parts, 255 * parts, 3 * 128 * 128)
        content[0] = 0 if parts == 1 else content[0]  # whose square grows by 1: sums in float32 miss that
        phases = np.stack([rng.permutation(content) for _ in range(9)])
        larger = int(rng.integers(9))
        phases[larger, phases[larger].argmin() if parts == 1 else rng.integers(len(content))] += 1
        levels = torch.from_numpy(phases).view(3, 3, 3, 128, 128).permute(2, 3, 0, 4, 1).reshape(1, 3, 384, 384)
        anchors = anchors_of_images(levels.float() if parts == 1 else levels.double() / parts, (3, 3))
        found.append((int(anchors.phases), bool(anchors.tied)))
        expected.append((larger, False))
    assert found == expected


def test_pixels_of_whole_levels_are_taken_for_these_in_any_normalisation() -> None:
    pixels = torch.arange(256, dtype=torch.float32) / 255
    for mean, std in ((0.485, 0.229), (0.5, 0.5), (0.0, 1.0), (0.9, 0.05)):
        recovered = ((pixels - mean) / std) * (255 * std) + 255 * mean
        assert float((recovered - recovered.round()).abs().max()) < 5e-4
        assert torch.equal(recovered.round(), torch.arange(256, dtype=torch.float32))


def test_levels_nearly_whole_have_the_norms_of_whole_ones() -> None:
    levels = torch.tensor([10.0, 10.0, 10.0, 10.0]).view(1, 1, 1, 4) + torch.tensor([0.0, 4e-4, -4e-4, 2e-4])
    assert bool(anchors_of_images(levels, (1, 4)).tied)
    assert int(anchors_of_images(levels + torch.tensor([0.0, 0.0, 2e-3, 0.0]), (1, 4)).phases) == 2


@pytest.mark.parametrize("rows", [(0, 1, 2, 3, 4), (0, 0, 1, 0, 1)], ids=["rows apart", "rows that repeat"])
def test_views_are_ordered_as_images_that_begin_at_them(rows: tuple[int, ...]) -> None:
    levels = torch.randint(0, 2, (2, 5, 6), generator=torch.Generator().manual_seed(0))[:, list(rows)]
    *_, names = view_names(levels)
    views = {place: _blocks(levels.roll((-place[0], -place[1]), dims=(1, 2))) for place in shifts((5, 6))}
    distinct = sorted(set(views.values()))
    assert {place: int(names[place]) for place in views} == {place: distinct.index(view) for place, view in views.items()}


def _blocks(levels: Tensor) -> tuple[int, ...]:
    """The values of a view in the order in which blocks that double are compared: a row of 8, then rows, each of which has 8."""
    wide = torch.cat((levels, levels), dim=2)[:, :, :8]
    tall = torch.cat((wide, wide), dim=1)[:, :8]
    return tuple(tall.permute(1, 2, 0).flatten().tolist())


def test_gradients_are_rolled_back() -> None:
    images = noise(1, 2, 3, 8, 8).requires_grad_()
    seen = noise(2, 2, 3, 8, 8)
    (anchored(images, (4, 4)) * seen).sum().backward()
    found = anchors_of_images(255 * images.detach(), (4, 4)).phases
    back = torch.stack([one.roll((int(phase) // 4, int(phase) % 4), dims=(1, 2)) for one, phase in zip(seen / STD, found, strict=True)])
    assert images.grad is not None
    torch.testing.assert_close(images.grad, back)
    assert len(set(found.tolist())) == 2


def test_rows_do_not_depend_on_their_batch() -> None:
    flat, two = torch.full((1, 3, 8, 8), 0.5), (noise(3, 1, 3, 8, 8) < 0.5).float()
    images = torch.cat((noise(1, 2, 3, 8, 8), (noise(2, 2, 3, 8, 8) * 255).round() / 255, flat, two))
    whole = anchored(images, (4, 2))
    for row in range(len(images)):
        assert torch.equal(anchored(images[row : row + 1], (4, 2))[0], whole[row])


def test_features_are_anchored_by_their_norms_and_equal_ones_by_how_the_map_looks_from_them() -> None:
    features = noise(4, 8, 5, 6, 4)
    found = anchors_of_features(features, (3, 2))
    norms = phase_maps(features, (3, 2)).flatten(2).norm(dim=2)
    assert torch.equal(found.phases, norms.argmax(dim=1))
    assert not bool(found.tied.any())
    unit = torch.nn.functional.normalize(features, dim=1)  # all tokens of one norm
    permuted = unit[:, :, [0, 1, 2, 3, 5, 4]]  # phases of the same tokens in other places
    both = torch.cat((unit, permuted), dim=3)
    twice = torch.cat((both, both[:, :, [1, 0, 2, 4, 3, 5]]), dim=2)  # every phase has the tokens of another
    for maps in (unit, both, twice):
        assert bool(anchors_of_features(maps, (3, 2)).tied.all())
        for shift in shifts((maps.shape[2], maps.shape[3])):
            moved = FeatureAnchor((3, 2))(maps.roll(shift, dims=(2, 3)))
            assert all(whole_strides(a, b, (3, 2)) for a, b in zip(FeatureAnchor((3, 2))(maps), moved, strict=True))


def test_moments_of_tied_phases_are_sums_over_the_places_around() -> None:
    unit = torch.nn.functional.normalize(noise(6, 1, 5, 4, 6).double(), dim=1)
    irregular = lambda number: (number * number * 0.6180339887498949) % 1  # noqa: E731
    weighed = [[sum(irregular(c + 1) * float(unit[0, c, i, j]) for c in range(5)) for j in range(6)] for i in range(4)]
    around = {
        (i, j): sum(irregular(1 + 6 * y + x) * weighed[(i + y) % 4][(j + x) % 6] for y in range(4) for x in range(6))
        for i in range(4) for j in range(6)
    }  # fmt: skip
    moments = [sum(around[i, j] ** 3 for i in range(a, 4, 2) for j in range(b, 6, 3)) for a in range(2) for b in range(3)]
    assert int(anchors_of_features(unit, (2, 3)).phases) == moments.index(max(moments))


def test_tokens_and_maps_are_anchored_alike() -> None:
    features = noise(4, 2, 5, 6, 4)
    last = FeatureAnchor((3, 2), last=True)(features.permute(0, 2, 3, 1))
    assert torch.equal(last.permute(0, 3, 1, 2), FeatureAnchor((3, 2))(features))
