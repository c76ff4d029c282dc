"""Visual words within an image, beside the same choice by loops over patches."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from reduction import ledger, reference
from torch import Tensor

from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.visual_words import VariedPatches, visual_words

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def varied(keep: float):
    """The patches of the largest variance, in their order."""

    def start(tokens: Tensor, image: Tensor) -> list[int]:
        rows = [image[:, 8 * (at // 4) : 8 * (at // 4) + 8, 8 * (at % 4) : 8 * (at % 4) + 8] for at in range(16)]
        variance = [float(((row - row.mean()) ** 2).mean()) for row in rows]
        return sorted(sorted(range(16), key=lambda at: -variance[at])[: math.ceil(16 * keep)])

    return start


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_it_is_the_same_choice_by_loops(make, keep) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(vits.TILE)
    wanted = reference(host, pixels, start=varied(keep))
    made = visual_words(host, keep=keep)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_plain_patches_are_dropped() -> None:
    host, pixels = vits.made(vits.vit), torch.full((1, 3, 32, 32), 0.5)
    pixels[:, :, 8:16] = vits.images(1)[:, :, 8:16]
    pixels[:, 0, :8, :8] = 0.4  # the same colour everywhere, but channels apart: normalisation brings variance
    made = visual_words(host, keep=0.25)
    made(pixels)
    assert made.model.patches_left[0].nonzero()[:, 0].tolist() == [4, 5, 6, 7]
    made(torch.full((1, 3, 32, 32), 0.5))
    assert made.model.patches_left[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3]


def test_patches_that_are_not_square() -> None:
    host, pixels = vits.made(lambda: vits.vit(patch_size=(4, 16))), vits.images(1) * 0.1
    pixels[:, :, 4:8, 16:] *= 9.0
    made = visual_words(host, keep=1 / 16)
    made(pixels)
    assert made.model.patches_left[0].nonzero()[:, 0].tolist() == [3]


def test_the_cost_is_that_of_the_patches_that_stay() -> None:
    tokens, macs, everything = ledger("small", VariedPatches(0.5, (16, 16)))
    assert tokens == [99] * 12
    assert everything == pytest.approx(macs, rel=1e-6)


def test_other_reducers_go_on_from_there() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    made = evit(visual_words(host, keep=0.5), keep=0.5, blocks=(1,))
    made(pixels)
    assert made.model.counted["tokens"][0].tolist() == [9.0, 6.0, 6.0]
    twice = visual_words(visual_words(host, keep=0.5), keep=0.5)
    assert torch.equal(twice(pixels), visual_words(host, keep=0.25)(pixels))
