"""Overlap of kept tokens, against sets made by hand, and the attack on what a reducer spends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vits

import robustvit as rv
from robustvit.analyses.token_choice import token_choice
from robustvit.attacks.inflate import inflate
from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.draws import Draws
from robustvit.primitives.surgery.recorded.token_records import surviving_patches

IDS = tuple("abcdef")


def reduced(transform: str = "visual_words(keep=0.5)"):
    return rv.transformed(vits.made(vits.HOSTS["plain"]), transform)


def draws() -> Draws:
    return Draws(0, "attack/inflate", IDS)


def loud(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """The images, flat but for the patches `where` (N, 16), which are noise: those that visual_words keeps."""
    mask = where.view(-1, 4, 4).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)[:, None]
    return torch.where(mask, images, 0.5)


def test_the_overlap_is_that_of_the_sets() -> None:
    images, model = vits.images(6), reduced()
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.stack([torch.randperm(16, generator=generator) < 8 for _ in IDS]) for _ in range(2))
    found = token_choice(model, loud(images, first), torch.zeros(6), draws(), corruption=lambda given, _: loud(images, second))
    expected = [len({*a.nonzero().flatten().tolist()} & {*b.nonzero().flatten().tolist()}) for a, b in zip(first, second, strict=True)]
    assert torch.allclose(found["value_token_iou"], torch.tensor([both / (16 - both) for both in expected]))
    assert found["value_kept_clean"].tolist() == found["value_kept_shifted"].tolist() == [8.0] * 6
    same = token_choice(model, images, torch.zeros(6), draws(), attack=lambda _, given, *__: given)
    assert same["value_token_iou"].tolist() == [1.0] * 6


def test_rows_do_not_depend_on_their_company() -> None:
    images, model = vits.images(6), reduced("ats")
    together = surviving_patches(model, images)
    assert all(torch.equal(surviving_patches(model, images[row : row + 1])[0], together[row]) for row in range(6))


def test_what_is_no_comparison_is_refused() -> None:
    with pytest.raises(BadParameter, match="one of the two"):
        token_choice(reduced(), vits.images(2), torch.zeros(2), draws())
    with pytest.raises(ModelError, match="computes on all its tokens"):
        token_choice(vits.made(vits.HOSTS["plain"]), vits.images(2), torch.zeros(2), draws(), corruption=lambda given, _: given)


@pytest.mark.long
def test_inflating_makes_an_adaptive_reducer_spend_more_inside_the_ball() -> None:
    model, data = rv.transformed(rv.load_model("demo"), "ats"), rv.load_data("digits")
    images = torch.stack([model.preprocess(data[i].image) for i in range(6)])
    labels = model(images).argmax(dim=1)
    found = inflate(model, images, labels, draws(), eps=16 / 255, steps=40)
    assert float((found.images - images).abs().max()) <= 16 / 255 + 1e-6
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
    assert found.columns["queries"].tolist() == [42] * 6
    clean, after = ([_gmacs(model, row) for row in some] for some in (images, found.images))
    assert all(one >= other for one, other in zip(after, clean, strict=True))
    assert np.mean(after) > 1.01 * np.mean(clean)


def _gmacs(model: rv.Classifier, image: torch.Tensor) -> float:
    model(image[None])
    return float(model.model.counted["gmacs"][0])


def test_inflating_keeps_the_best_of_its_own_random_squares() -> None:
    """Rows alone give the same images, and a fixed-count reducer, which cannot be inflated, keeps every image as it is."""
    model, images = reduced("ats(samples=12)"), vits.images(6)
    labels = model(images).argmax(dim=1)
    together = inflate(model, images, labels, draws(), eps=8 / 255, steps=10).images
    alone = inflate(model, images[2:3], labels[2:3], draws()[torch.tensor([2])], eps=8 / 255, steps=10).images
    assert torch.equal(alone[0], together[2])
    fixed = reduced("evit(keep=0.5)")
    assert torch.equal(inflate(fixed, images, fixed(images).argmax(dim=1), draws(), eps=8 / 255, steps=5).images, images)
    with pytest.raises(ModelError, match="computes on all its tokens"):
        inflate(vits.made(vits.HOSTS["plain"]), images, labels, draws(), eps=8 / 255, steps=5)
