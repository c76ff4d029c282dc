"""Channels that are zero after the normalisation, and black before it, against arithmetic by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from robustvit.analyses.lesions.channel_subsets import channel_subsets
from robustvit.corruptions.channels import drop_channels
from robustvit.errors import BadParameter, NotApplicable
from robustvit.metrics.lesions.subset_accuracy import subset_accuracy, subset_area, worst_subset_accuracy
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.shown_channels import listed_channels
from robustvit.primitives.model_card import Card
from robustvit.spec.spec import Spec
from robustvit.spec.view import View
from robustvit.transforms.channels.keep_channels import keep_channels

DRAWS = Draws(0, "x", tuple("abcdef"))


def of(channels: int) -> Classifier:
    """A ViT of images of so many channels, each with its own mean and deviation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, num_heads=2, depth=2, num_classes=5, in_chans=channels)
    module.patch_embed.proj.weight.data.mul_(5)
    mean, std = (tuple(start + 0.05 * channel for channel in range(channels)) for start in (0.3, 0.2))
    return Classifier(module, mean=mean, std=std, view=View((16, 16), 16), card=Card("toy", Spec("toy"), "f", "given"), tile=4)


def pixels(channels: int) -> torch.Tensor:
    return torch.rand(6, channels, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("channels", "kept"), [(3, (0,)), (3, (0, 2)), (5, (4, 1)), (1, (0,))])
@pytest.mark.parametrize("scale", [True, False])
def test_other_channels_are_zero_after_the_normalisation(channels: int, kept: tuple[int, ...], scale: bool) -> None:
    model, images = of(channels), pixels(channels)
    normal = ((images - model.mean) / model.std).double()
    for channel in range(channels):
        normal[:, channel] *= (channels / len(kept) if scale else 1.0) if channel in kept else 0.0
    expected = of(channels).double().model(normal)
    assert torch.allclose(keep_channels(model, channels=kept, scale=scale)(images).double(), expected, atol=1e-5)


def test_all_channels_are_the_host_to_the_bit() -> None:
    model, images = of(3), pixels(3)
    assert torch.equal(keep_channels(model, channels=(2, 0, 1))(images), model(images))
    assert torch.equal(keep_channels(keep_channels(model, channels=(0,)), channels=())(images), keep_channels(model, channels=(0,))(images))


def test_what_goes_has_no_gradient_and_changes_nothing() -> None:
    model, images = keep_channels(of(3), channels=(0, 2)), pixels(3).requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images)
    assert not bool(gradient[:, 1].any())
    assert bool(gradient[:, (0, 2)].flatten(1).any(dim=1).all())
    changed = images.detach().clone()
    changed[:, 1] = 1 - changed[:, 1]
    assert torch.equal(model(changed), model(images))


def test_black_comes_before_the_normalisation() -> None:
    images = pixels(3)
    made = drop_channels(images, DRAWS, channels=(0, 2))
    assert torch.equal(made[:, 1], images[:, 1])
    assert not bool(made[:, (0, 2)].any())
    model = of(3)
    assert not torch.allclose(model(made), keep_channels(model, channels=(1,), scale=False)(images), atol=1e-3)


@pytest.mark.parametrize(("channels", "count"), [(1, 1), (3, 7), (5, 31), (8, 255)])
def test_of_few_channels_all_subsets_are_listed(channels: int, count: int) -> None:
    found = listed_channels(channels, 32, 0)
    every = [one for size in range(1, channels + 1) for one in itertools.combinations(range(channels), size)]
    assert found == every
    assert len(found) == count


def test_of_many_channels_32_subsets_of_each_size_are_drawn() -> None:
    found = listed_channels(12, 32, 0)
    sizes = [sum(len(one) == size for one in found) for size in range(1, 13)]
    assert sizes == [12, *[32] * 9, 12, 1]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("where", ["normalised", "pixels"])
def test_every_subset_is_judged_as_its_transform_or_corruption(where: Any) -> None:
    model, images = of(4), pixels(4)
    labels = model(images).argmax(dim=1)
    found = channel_subsets(model, images, labels, DRAWS, where=where)
    for place, kept in enumerate(listed_channels(4, 32, 0)):
        others = tuple(channel for channel in range(4) if channel not in kept)
        one = keep_channels(model, channels=kept)(images) if where == "normalised" else model(drop_channels(images, DRAWS, channels=others))
        assert found["value_subset_right"][:, place].tolist() == (one.argmax(dim=1) == labels).float().tolist(), kept
        assert float(found["value_subset_size"][0, place]) == len(kept)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: keep_channels(of(3), channels=(3,)), "keep_channels: there is no channel 3; images have 3, 0 to 2"),
    (lambda: keep_channels(of(3), channels=(0, 0)), "keep_channels: channel 0 is named twice"),
    (lambda: drop_channels(pixels(5), DRAWS, channels=(5,)), "drop_channels: there is no channel 5; images have 5, 0 to 4"),
    (lambda: drop_channels(pixels(3), DRAWS, channels=(0, 1, 2)), "drop_channels: all 3 channels would be black"),
])  # fmt: skip
def test_what_is_not_there_is_refused(call: Any, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        call()


def table() -> pd.DataFrame:
    """Two samples on the seven subsets of three channels."""
    right = [[1, 0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 0, 0, 1]]
    return pd.DataFrame({
        "value_subset_right": [np.array(row, np.float32) for row in right],
        "value_subset_size": [np.array([1, 1, 1, 2, 2, 2, 3], np.float32)] * 2,
    })  # fmt: skip


def test_metrics_of_subsets() -> None:
    assert subset_accuracy(table()).tolist() == pytest.approx([1 / 3, 1 / 3])
    assert subset_accuracy(table(), size=2).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert worst_subset_accuracy(table()).of(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist() == [0.0, 0.0]
    assert subset_area(table()).tolist() == pytest.approx([(1 / 3 + 2 / 3) / 4 + (2 / 3 + 1) / 4, (1 / 3 + 1 / 3) / 4 + (1 / 3 + 1) / 4])
    with pytest.raises(NotApplicable, match="images have 3 channels, and not 4"):
        subset_accuracy(table(), size=4)
