"""Geometric corruptions: identities, draws inside their ranges, and images made by other means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustvit.corruptions.geometry import turns
from robustvit.corruptions.geometry.erasing import erasing
from robustvit.corruptions.geometry.moves import crop, flip, ring_shifts, shift
from robustvit.corruptions.geometry.turns import affine, perspective, rotation
from robustvit.errors import BadParameter
from robustvit.primitives.draws import Draws
from robustvit.primitives.geometry.maps import image_corners
from robustvit.primitives.geometry.resampling import resampled
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.spec import parse

COUNT = 40


def images(count: int = COUNT, height: int = 24, width: int = 32) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)).clamp_min(0.01)


def draws(count: int = COUNT) -> Draws:
    return Draws(3, "x", [f"s{i}" for i in range(count)])


def named(value: object) -> str:
    """A test's name without the address of a function, which differs between processes."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("corruption", "none"),
    [
        (shift, {"pixels": 0}), (shift, {"share": 0.0}), (crop, {"padding": 0}), (rotation, {"degrees": 0.0}), (affine, {"strength": 0.0}),
        (perspective, {"distortion": 0.0}), (perspective, {"probability": 0.0}), (erasing, {"area": 0.0}), (erasing, {"probability": 0.0}),
        (flip, {"probability": 0.0}),
    ],
    ids=named,
)  # fmt: skip
def test_the_identity_returns_every_bit(corruption: Any, none: dict[str, float]) -> None:
    assert torch.equal(corruption(images(), draws(), **none), images())


def test_a_shift_is_a_roll_of_exactly_so_many_pixels_and_all_directions_are_equally_likely() -> None:
    many = ring_shifts(draws(8000), 3)
    assert many.abs().amax(dim=1).eq(3).all()
    places = (many[:, 0] + 3) * 7 + many[:, 1] + 3
    counts = torch.bincount(places, minlength=49)
    assert int((counts > 0).sum()) == 24
    expected = 8000 / 24
    assert float((counts[counts > 0] - expected).square().sum() / expected) < 50  # the 0.999 quantile with 23 degrees of freedom
    found = shift(images(), draws(), pixels=3)
    for one, result, (down, right) in zip(images(), found, ring_shifts(draws().at("shift"), 3).tolist(), strict=True):
        assert torch.equal(result, one.roll((down, right), (1, 2)))


def test_a_share_is_of_the_shorter_side_and_linear_shifts_bring_in_black() -> None:
    assert torch.equal(shift(images(), draws(), share=0.25, border="zeros"), shift(images(), draws(), pixels=6, border="zeros"))
    black = (shift(images(), draws(), pixels=6, border="zeros") == 0).all(dim=1).sum(dim=(1, 2))
    down, right = ring_shifts(draws().at("shift"), 6).abs().unbind(1)
    assert torch.equal(black, 24 * 32 - (24 - down) * (32 - right))


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    found, padded = crop(images(), draws(), padding=3), np.pad(images().numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)))
    offsets = set()
    for one, result in zip(padded, found.numpy(), strict=True):
        equal = [(r, c) for r in range(7) for c in range(7) if np.array_equal(one[:, r : r + 24, c : c + 32], result)]
        assert len(equal) == 1
        offsets.add(equal[0])
    assert len(offsets) > 20
    assert {r for r, _ in offsets} == {c for _, c in offsets} == set(range(7))


def test_a_flip_mirrors_all_images_or_so_many_of_them() -> None:
    assert torch.equal(flip(images(), draws()), images().flip(3))
    assert torch.equal(flip(images(), draws(), direction="vertical"), images().flip(2))
    some = flip(images(), draws(), probability=0.5)
    same = (some == images()).flatten(1).all(dim=1)
    assert 10 < int(same.sum()) < 30
    assert torch.equal(some[~same], images().flip(3)[~same])


def mapped(monkeypatch: pytest.MonkeyPatch, corruption: Any, size: tuple[int, int] = (24, 32), **given: Any) -> Tensor:
    """The maps with which a corruption resamples many images, each once."""
    seen: list[Tensor] = []

    def record(pixels: Tensor, maps: Tensor, border: str) -> Tensor:
        seen.append(maps)
        return resampled(pixels, maps, border)  # type: ignore[arg-type]

    monkeypatch.setattr(turns, "resampled", record)
    corruption(torch.rand(400, 3, *size), draws(400), **given)
    (maps,) = seen
    return torch.linalg.inv(maps)


def test_a_rotation_is_about_the_centre_by_a_uniform_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = mapped(monkeypatch, rotation, degrees=30.0)
    angles = torch.rad2deg(torch.atan2(forward[:, 1, 0], forward[:, 0, 0]))
    assert torch.allclose(forward[:, :2, :2].det(), torch.ones(400).double())
    assert not forward[:, :2, 2].any()
    assert -30 <= float(angles.min()) < -28
    assert 28 < float(angles.max()) <= 30
    assert abs(float(angles.mean())) < 3 * 17.32 / 20
    assert float(angles.std()) == pytest.approx(60 / math.sqrt(12), rel=0.1)


def test_an_affine_map_has_its_parts_in_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    for strength in (1.0, 0.5):
        forward = mapped(monkeypatch, affine, strength=strength)
        angle = torch.rad2deg(torch.atan2(forward[:, 1, 0], forward[:, 0, 0]))
        size = forward[:, :2, 0].norm(dim=1)
        lean = torch.rad2deg(torch.atan(-(forward[:, :2, 0] * forward[:, :2, 1]).sum(dim=1) / size**2))
        for values, most in ((angle, 30.0), (size - 1, 0.2), (lean, 10.0)):
            assert 0.97 * strength * most < float(values.abs().max()) <= strength * most + 1e-6
            assert abs(float(values.mean())) < 0.1 * strength * most
        moved = forward[:, :2, 2]
        assert torch.allclose(moved, moved.round(), atol=1e-9)
        assert moved.abs().amax(dim=0).round().tolist() == [round(3.2 * strength - 0.01), round(2.4 * strength - 0.01)]


def test_an_image_has_the_same_draws_at_every_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, half = (mapped(monkeypatch, rotation, degrees=degrees) for degrees in (40.0, 20.0))
    angles = [torch.rad2deg(torch.atan2(one[:, 1, 0], one[:, 0, 0])) for one in (whole, half)]
    assert torch.allclose(angles[0], 2 * angles[1])


def test_a_perspective_moves_corners_inwards_by_at_most_its_distortion(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = mapped(monkeypatch, perspective, distortion=0.5)
    corners = image_corners(24, 32)
    landed = torch.cat((corners, torch.ones(4, 1).double()), dim=1) @ forward.transpose(1, 2)
    inward = (corners - landed[:, :, :2] / landed[:, :, 2:]) * corners.sign()
    assert float(inward.min()) >= -1e-9
    assert inward.amax(dim=(0, 1)).tolist() == pytest.approx([8.0, 6.0], rel=0.02)
    assert inward.mean(dim=(0, 1)).tolist() == pytest.approx([4.0, 3.0], rel=0.1)


def test_erasing_hides_one_rectangle_of_the_area_and_shape_that_it_is_given() -> None:
    many = images(400)
    found = erasing(many, draws(400), area=0.2)
    hidden = (found == 0).all(dim=1)
    assert torch.equal(torch.where(hidden[:, None], many, found), many)
    rows, columns = hidden.any(dim=2).sum(dim=1), hidden.any(dim=1).sum(dim=1)
    assert torch.equal(rows * columns, hidden.sum(dim=(1, 2)))
    assert hidden.sum(dim=(1, 2)).float().mean() == pytest.approx(0.2 * 24 * 32, rel=0.02)
    ratios = (rows / columns).log()
    assert abs(float(ratios.mean())) < 0.12
    assert math.exp(float(ratios.min())) == pytest.approx(0.3, rel=0.15)
    assert math.exp(float(ratios.max())) == pytest.approx(1 / 0.3, rel=0.15)
    firsts = {(int(one.any(dim=1).int().argmax()), int(one.any(dim=0).int().argmax())) for one in hidden}
    assert {row for row, _ in firsts} >= set(range(12))


def test_all_of_an_image_can_be_erased_and_a_fill_chosen() -> None:
    assert torch.equal(erasing(images(), draws(), area=1.0, fill=0.5), torch.full_like(images(), 0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"rotation": {"degrees": -5}}, "corruption 'rotation': degrees is -5; it takes a number >= 0 and <= 180"),
        ({"shift": {"pixels": 2, "border": "mirror"}}, "border is mirror; it takes one of zeros, edge, reflect, circular"),
        ({"crop": {"padding": -1}}, "padding is -1; it takes a whole number >= 0"),
        ({"perspective": {"distortion": 0.9}}, "distortion is 0.9; it takes a number >= 0 and <= 0.6"),
        ({"affine": {"shear": 90}}, "shear is 90; it takes a number >= 0 and < 90"),
    ],
    ids=named,
)
def test_what_is_no_transform_is_refused_before_anything_runs(text: dict[str, Any], message: str) -> None:
    (spec,) = parse(text)
    with pytest.raises(BadParameter) as error:
        bind(lookup("corruption", spec.name), spec)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_shifts_larger_than_the_image_are_refused() -> None:
    for call in (lambda: shift(images(), draws(), pixels=24), lambda: crop(images(), draws(), padding=24)):
        with pytest.raises(BadParameter, match=r"a (shift|padding) of 24 pixels is as large as images of 24x32; take at most 23"):
            call()
    with pytest.raises(BadParameter, match="give pixels or share, one of the two"):
        shift(images(), draws())
