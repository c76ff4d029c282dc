"""Adaptive polyphase sampling of a patch embedding beside anchoring."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import vits

from robustvit.errors import HostRefused
from robustvit.primitives.structure.anchoring import AdaptiveSampling
from robustvit.primitives.structure.polyphase import rolled_to_phase
from robustvit.primitives.surgery.recorded.tie_records import recorded_ties
from robustvit.transforms.geometry.aps import aps
from robustvit.transforms.structure.overlapping_patches import overlapping_patches


def test_it_keeps_the_phase_of_the_largest_norm_which_is_an_embedding_of_the_rolled_image() -> None:
    conv: Any = vits.vit().patch_embed.proj  # type: ignore[union-attr]
    pixels = vits.images(4)
    with torch.no_grad():
        found = AdaptiveSampling(conv)(pixels)
        for row in range(4):
            every = torch.cat([conv(rolled_to_phase(pixels[row : row + 1], torch.tensor([phase]), (8, 8))) for phase in range(64)])
            best = every.double().flatten(1).norm(dim=1).argmax()
            torch.testing.assert_close(found[row], every[best], rtol=1e-5, atol=1e-6)


def test_a_circular_shift_of_an_image_shifts_its_tokens_circularly() -> None:
    conv: Any = vits.vit().patch_embed.proj  # type: ignore[union-attr]
    layer, pixels = AdaptiveSampling(conv), vits.images(1)
    with torch.no_grad():
        before = layer(pixels)
        for shift in product((0, 1, 8, 13), (0, 3, 16)):
            made = layer(pixels.roll(shift, dims=(2, 3)))
            rolls = [before.roll(one, dims=(2, 3)) for one in product(range(4), range(4))]
            assert min(float((made - one).abs().max()) for one in rolls) < 1e-6


@pytest.mark.parametrize("name", ["plain", "average-pooled", "distilled"])
def test_logits_stay_under_circular_shifts_and_not_with_zeros_at_the_border(name: str) -> None:
    model = aps(vits.made(vits.HOSTS[name]))
    pixels = vits.images(2)
    moved = [model(pixels.roll(shift, dims=(2, 3))) for shift in product((0, 1, 8, 13), (0, 3, 16))]
    assert max(float((one - moved[0]).abs().max()) for one in moved) < 1e-5
    inner: Any = model.model
    inner.patch_embed.proj.positions.conv.padding_mode = "zeros"
    moved = [model(pixels.roll(shift, dims=(2, 3))) for shift in product((0, 1, 8, 13), (0, 3, 16))]
    assert max(float((one - moved[0]).abs().max()) for one in moved) > 1e-3


def test_ties_are_counted() -> None:
    model = aps(vits.made(vits.HOSTS["plain"]))
    pixels = torch.cat((vits.images(1), torch.full((1, 3, 32, 32), 0.5)))
    with recorded_ties(model, 2) as found:
        model(pixels)
    assert found["value_tied"].tolist() == [0.0, 1.0]


def test_patches_that_overlap_or_do_not_divide_are_refused() -> None:
    with pytest.raises(HostRefused, match="'aps' does not take 'toy': its patch embedding is no convolution of patches side by side"):
        aps(overlapping_patches(vits.made(vits.HOSTS["plain"])))
    model = vits.made(lambda: vits.vit(patch_size=5, depth=1))
    with pytest.raises(HostRefused, match="its patches of 5x5 do not divide 32x32"):
        aps(model)
