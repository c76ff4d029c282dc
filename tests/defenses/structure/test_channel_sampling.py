"""Hierarchical channel sampling: its subsets, its rescaling after normalisation, its limits."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.structure.channel_sampling import sampled_channels
from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.shown_channels import with_channels

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
IMAGES = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.arange(5) % 2, tuple("abcde"))


class Recorder(nn.Module):
    """Keeps the normalised images that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 2)

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return self.head(images.flatten(1))


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_every_number_of_channels_is_as_likely_and_every_subset_of_it(channels: int) -> None:
    count = 6000
    keep = sampled_channels(Draws(0, "step", [str(i) for i in range(count)]), channels)
    numbers = Counter(keep.sum(dim=1).tolist())
    assert set(numbers) == set(range(1, channels + 1))
    assert all(abs(found / count - 1 / channels) < 0.03 for found in numbers.values())
    pairs = Counter(map(tuple, keep[keep.sum(dim=1) == 1].tolist()))
    assert len(pairs) == channels
    assert all(abs(found / numbers[1] - 1 / channels) < 0.06 for found in pairs.values())


@pytest.mark.parametrize("rescale", [True, False])
def test_the_model_receives_zeros_and_channels_times_what_are_missing(rescale: bool) -> None:
    module = Recorder()
    model = rv.OnPixels(module, MEAN, STD)
    draws = Draws.for_step(0, 2, BATCH.ids)
    found = rv.load_defense("channel_sampling", rescale=rescale)(model, BATCH, draws)
    keep = sampled_channels(draws.at("loss"), 3)
    assert len(set(keep.sum(dim=1).tolist())) > 1
    expected = normalised(IMAGES)
    for row in range(5):
        for channel in range(3):
            factor = 3 / int(keep[row].sum()) if rescale else 1.0
            expected[row, channel] *= factor if keep[row, channel] else 0.0
    assert torch.allclose(module.images, expected, atol=1e-5)
    assert torch.allclose(found, functional.cross_entropy(module.head(expected.flatten(1)), BATCH.labels), atol=1e-5)


def test_all_channels_are_the_image_to_the_bit() -> None:
    every = torch.ones(5, 3, dtype=torch.bool)
    assert torch.equal(with_channels(IMAGES, every, torch.full((1, 3, 1, 1), 0.123), rescale=True), IMAGES)


def test_a_row_draws_the_same_in_any_company() -> None:
    draws = Draws.for_step(0, 0, BATCH.ids)
    assert torch.equal(sampled_channels(draws, 3)[3:4], sampled_channels(draws[torch.tensor([3])], 3))


def test_adversarial_images_are_what_is_sampled_of() -> None:
    module = Recorder()
    shown = BATCH.with_crafted(IMAGES * 0.5)
    draws = Draws.for_step(0, 0, BATCH.ids)
    rv.load_defense("channel_sampling", rescale=False).objective(rv.OnPixels(module, MEAN, STD), shown, draws)
    keep = sampled_channels(draws.at("loss"), 3)[:, :, None, None]
    assert torch.allclose(module.images, torch.where(keep, normalised(IMAGES * 0.5), torch.zeros(())), atol=1e-5)


def test_a_model_without_a_normalisation_is_refused() -> None:
    with pytest.raises(BadParameter, match=r"a Recorder has no normalisation of its own, .* give rv.OnPixels"):
        rv.load_defense("channel_sampling")(Recorder(), BATCH, Draws.for_step(0, 0, BATCH.ids))
