"""Random noise of a ball's size."""

from __future__ import annotations

import pytest
import torch
from exact import images, linear

from robustvit.attacks.random_noise import random_noise
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import Norm, random_start, size, surface_start

NAMES = [str(i) for i in range(8)]
DRAWS = Draws(0, "x", NAMES)
LABELS = torch.zeros(8, dtype=torch.int64)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3), ("l1", 1.0)])
def test_noise_inside_is_uniform_in_the_ball(norm: Norm, eps: float) -> None:
    found = random_noise(linear()[0], images(8), LABELS, DRAWS, eps=eps, norm=norm)
    assert torch.allclose(found.images, images(8) + random_start(images(8), eps, norm, DRAWS), atol=1e-6)
    assert {name: set(values.tolist()) for name, values in found.columns.items()} == {
        "steps": {-1}, "queries": {0}, "gradients": {0}, "gradient": {3},
    }  # fmt: skip


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3), ("l1", 1.0)])
def test_noise_on_the_surface_has_the_size_of_the_ball(norm: Norm, eps: float) -> None:
    delta = random_noise(linear()[0], images(8), LABELS, DRAWS, eps=eps, norm=norm, place="surface").images - images(8)
    assert size(delta, norm).tolist() == pytest.approx([eps] * 8, rel=1e-4)
    if norm == "linf":
        assert torch.allclose(delta.abs(), torch.full_like(delta, eps), atol=1e-6)
        assert 0.35 < float((delta > 0).float().mean()) < 0.65
    else:
        assert torch.allclose(delta, surface_start(images(8), eps, norm, DRAWS), atol=1e-6)


def test_labels_and_the_model_are_not_read_and_a_row_is_what_it_is_alone() -> None:
    whole = random_noise(linear()[0], images(8), LABELS, DRAWS, eps=0.1).images
    keep = torch.tensor([5, 2])
    assert torch.equal(random_noise(linear()[0], images(8)[keep], LABELS[keep] + 1, DRAWS[keep], eps=0.1).images, whole[keep])
