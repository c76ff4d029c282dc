"""Random views: boxes, colours against colorsys, blur against scipy, and draws of each image's own."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from robustvit.defenses.pretext.views import ViewChoice, blurred, boxes_of, jittered, random_views, turned
from robustvit.primitives.draws import Draws

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = tuple("abcdef")
DRAWS = Draws(0, "views", IDS)


def test_a_view_does_not_depend_on_the_company_of_its_image() -> None:
    choice = ViewChoice(0.08, 0.5, 1.0, 0.5)
    every = random_views(IMAGES, DRAWS, choice)
    order = torch.tensor([4, 1])
    assert torch.allclose(random_views(IMAGES[order], DRAWS[order], choice), every[order], atol=1e-6)
    assert every.shape == IMAGES.shape
    assert 0 <= every.min() <= every.max() <= 1
    assert (every - random_views(IMAGES, DRAWS.at("second"), choice)).abs().flatten(1).mean(dim=1).min() > 0.01


def test_without_any_change_a_view_is_the_image() -> None:
    assert torch.allclose(random_views(IMAGES, DRAWS, ViewChoice(1.0, 0.0, 0.0, 0.0)), IMAGES, atol=1e-6)
    mirrored = random_views(IMAGES, DRAWS, ViewChoice(1.0, 1.0, 0.0, 0.0))
    assert torch.allclose(mirrored, IMAGES.flip(3), atol=1e-6)


def test_boxes_are_within_images_and_of_the_area_and_aspect_that_are_asked_for() -> None:
    boxes = boxes_of(Draws(0, "b", [str(i) for i in range(2000)]), torch.Size((100, 150)), 0.2).double()
    top, left, high, wide = boxes.unbind(dim=1)
    assert ((top >= 0) & (top + high <= 100) & (left >= 0) & (left + wide <= 150)).all()
    area, aspect = high * wide / 15000, wide / high
    assert 0.19 < area.min() < 0.22
    assert 0.8 < area.max() < 0.9, "100 x 133 is the largest of an aspect of 4/3"
    assert ((aspect > 0.73) & (aspect < 1.37)).all()
    assert (top + high == 100).any()
    assert (top == 0).any()


def test_hues_turn_as_those_of_colorsys() -> None:
    amounts = torch.tensor([0.1, -0.2, 0.5, 0.0, 0.9, -0.05])
    images = IMAGES[:, :, :3, :3].clone()
    images[0, :, 0, 0] = 0.4  # grey has no hue
    found = turned(images, amounts)
    for row, amount in enumerate(amounts.tolist()):
        for y in range(3):
            for x in range(3):
                hue, saturation, value = colorsys.rgb_to_hsv(*images[row, :, y, x].tolist())
                expected = colorsys.hsv_to_rgb((hue + amount) % 1, saturation, value)
                assert found[row, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_blur_is_a_gaussian_of_each_images_own_sigma() -> None:
    sigmas = torch.tensor([0.1, 0.5, 0.8, 1.0, 1.5, 2.0])
    found = blurred(IMAGES, sigmas, 3)
    for row, sigma in enumerate(sigmas.tolist()):
        kernel = np.array([math.exp(-(at**2) / (2 * sigma**2)) for at in (-1, 0, 1)])
        kernel /= kernel.sum()
        expected = ndimage.convolve(IMAGES[row].double().numpy(), kernel[None, :, None] * kernel[None, None, :], mode="constant")
        assert np.allclose(found[row].numpy(), expected, atol=1e-6)


def test_changes_of_colour_are_made_in_the_order_drawn() -> None:
    amount, order = DRAWS.at("amount").uniform(4), DRAWS.at("order").permutation(4)
    found = jittered(IMAGES, DRAWS, 0.5)
    for row in range(6):
        image = IMAGES[row].double()
        for turn in order[row].tolist():
            image = _changed(image, turn, amount[row, turn].item(), 0.5).clamp(0, 1)
        assert torch.allclose(found[row].double(), image, atol=1e-5)
    assert torch.allclose(jittered(IMAGES, DRAWS, 0.0), IMAGES, atol=1e-6)


def _changed(image: Tensor, change: int, unit: float, strength: float) -> Tensor:
    """Brightness, contrast, saturation or hue of one image (3, H, W) changed, by the definitions. unit: uniform in [0, 1)."""
    factor = 1 + (2 * unit - 1) * 0.8 * strength
    if change == 0:
        return factor * image
    if change == 1:
        means = image.mean(dim=(1, 2), keepdim=True)
        return factor * image + (1 - factor) * means
    if change == 2:
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        return factor * image + (1 - factor) * grey
    return turned(image[None], torch.tensor([(2 * unit - 1) * 0.2 * strength]).double())[0]


def test_grey_and_jitter_have_their_shares() -> None:
    ids = [str(i) for i in range(1000)]
    found = random_views(IMAGES[:1, :, :4, :4].expand(1000, -1, -1, -1), Draws(0, "v", ids), ViewChoice(1.0, 0.0, 0.5, 0.0))
    grey = (found.amax(dim=1) - found.amin(dim=1)).flatten(1).amax(dim=1) < 1e-6
    same = (found - IMAGES[:1, :, :4, :4]).abs().flatten(1).amax(dim=1) < 1e-5
    assert abs(grey.double().mean() - 0.2) < 0.04
    assert abs(same.double().mean() - 0.2 * 0.8) < 0.04
