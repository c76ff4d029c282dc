"""SSP, NRDM and dispersion reduction against loops over single images written from their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from vits import distilled, images, made, vit

from robustvit.attacks.feature.distortion import dispersion_reduction, nrdm, ssp
from robustvit.attacks.feature.feature_ascent import Schedule, feature_ascent
from robustvit.primitives.attack_search import GRADIENTS
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.block_features import BlockFeatures, patch_values

EPS = 8 / 255
NAMES = ["a", "b", "c", "d", "e"]
DRAWS = Draws(0, "x", NAMES)
LABELS = torch.zeros(len(NAMES), dtype=torch.int64)
Objective = Callable[[Tensor, Tensor], Tensor]


def patches(model: Classifier, image: Tensor, layer: int) -> Tensor:
    """(T, D): the patch tokens of one image after a block, block by block."""
    net: Any = model.model
    tokens = net.norm_pre(net._pos_embed(net.patch_embed((image[None] - model.mean) / model.std)))  # type: ignore[operator]
    for number in range(layer + 1):
        tokens = net.blocks[number](tokens)
    found: Tensor = tokens[0, net.num_prefix_tokens :]
    return found


def by_hand(model: Classifier, image: Tensor, start: Tensor, layer: int, steps: int, step: float, objective: Objective) -> Tensor:
    low, high = (image - EPS).clamp(min=0), (image + EPS).clamp(max=1)
    clean, at = patches(model, image, layer).detach(), torch.minimum(torch.maximum(start, low), high)
    for _ in range(steps):
        at = at.detach().requires_grad_(True)
        gradient = torch.autograd.grad(objective(patches(model, at, layer), clean), at)[0]
        at = torch.minimum(torch.maximum(at.detach() + step * gradient.sign(), low), high)
    return at.detach()


def l2(found: Tensor, clean: Tensor) -> Tensor:
    return (found - clean).square().sum().sqrt()


def mean_squared(found: Tensor, clean: Tensor) -> Tensor:
    return torch.nn.functional.mse_loss(found, clean)


def negative_deviation(found: Tensor, _: Tensor) -> Tensor:
    centred = found - found.mean()
    return -(centred.square().sum() / (found.numel() - 1)).sqrt()


def uniform(image: Tensor, row: int) -> Tensor:
    return image + DRAWS.uniform(3, 32, 32, low=-EPS, high=EPS)[row].double()


def normal(image: Tensor, row: int) -> Tensor:
    return DRAWS.normal(3, 32, 32)[row].double()


def itself(image: Tensor, row: int) -> Tensor:
    return image


CASES = [(ssp, normal, l2, 0.01), (nrdm, uniform, mean_squared, EPS / 10), (dispersion_reduction, itself, negative_deviation, 4 / 255)]


@pytest.mark.parametrize("make", [vit, distilled], ids=["class token", "two prefix tokens"])
@pytest.mark.parametrize(("attack", "start", "objective", "step"), CASES, ids=["ssp", "nrdm", "dispersion_reduction"])
def test_each_step_follows_the_objective_from_its_start(attack: Any, start: Any, objective: Objective, step: float, make: Any) -> None:
    model, pixels = made(make).double(), images(len(NAMES)).double()
    for layer, steps in ((0, 1), (2, 4)):
        expected = [by_hand(model, image, start(image, i), layer, steps, step, objective) for i, image in enumerate(pixels)]
        found = attack(model, pixels, LABELS, DRAWS, eps=EPS, steps=steps, layer=layer).images
        assert torch.allclose(found, torch.stack(expected), atol=1e-9)


@pytest.mark.parametrize("attack", [ssp, nrdm, dispersion_reduction])
def test_the_block_by_default_is_the_last_of_the_first_half(attack: Any) -> None:
    for depth, layer in ((1, 0), (3, 0), (4, 1), (6, 2)):
        model = made(lambda depth=depth: vit(depth=depth))
        two: Any = (model, images(2), LABELS[:2], DRAWS[torch.arange(2)])
        default, named = (attack(*two, eps=EPS, steps=2, **more).images for more in ({}, {"layer": layer}))
        assert torch.equal(default, named)


@pytest.mark.parametrize("attack", [ssp, nrdm, dispersion_reduction])
def test_a_ball_without_a_radius_leaves_the_image(attack: Any) -> None:
    assert torch.equal(attack(made(vit), images(5), LABELS, DRAWS, eps=0.0, steps=2).images, images(5))


def test_without_noise_there_is_nothing_to_follow_and_that_is_reported() -> None:
    """The distance has no gradient at the clean image itself: what a random start is for."""
    features = BlockFeatures(made(vit), [1], patch_values)
    found = feature_ascent(
        features, images(5), LABELS, DRAWS, Schedule(EPS, 3, 0.01, "image"), lambda made, clean: (made - clean).square().sum(dim=1)
    )
    assert {GRADIENTS[code] for code in found.columns["gradient"].tolist()} == {"absent"}
    assert torch.equal(found.images, images(5))
