"""What is certified stands: no patch, wherever it lies and whatever is on it, changes the vote."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from robustvit.ablations import Ablations
from robustvit.batch import Batch
from robustvit.classifier import Classifier
from robustvit.data.digits import digits
from robustvit.draws import Draws
from robustvit.loading import load_model
from robustvit.registry import bind, lookup
from robustvit.scenario import scenario
from robustvit.spec import parse
from robustvit.trainer import shown
from robustvit.visible import Looks, sight

BANDS = Ablations("columns", 4, 1, (32, 32))
WINDOW = BANDS.window(np.arange(BANDS.count))


@functools.cache
def certified(unseen: str) -> tuple[Classifier, Batch, dict[str, Tensor]]:
    """The model trained on ablations, some digits, and their votes."""
    model = load_model("demo/ablations")
    batch = shown(digits(None), np.arange(16), model.view, "cpu")
    spec = bind(lookup("certificate", "columns"), parse({"columns": {"width": 4, "unseen": unseen}})[0])
    return model, batch, scenario(lookup("certificate", "columns"), spec)(model, batch, Draws(0, "c", batch.ids)).columns


def all_looks(model: Classifier, images: Tensor, unseen: str) -> Tensor:
    """(N, bands, K) logits, differentiable."""
    which = torch.arange(len(images)).repeat_interleave(BANDS.count)
    window = BANDS.window(np.tile(np.arange(BANDS.count), len(images)))
    return sight(model, images, unseen).logits(Looks(which, window)).view(len(images), BANDS.count, -1)  # type: ignore[arg-type]


def vote(model: Classifier, images: Tensor, unseen: str) -> Tensor:
    with torch.no_grad():
        counts = functional.one_hot(all_looks(model, images, unseen).argmax(dim=2), 10).sum(dim=1)
    return counts.argmax(dim=1)


def attacked(model: Classifier, images: Tensor, labels: Tensor, patch: int, unseen: str) -> Tensor:
    """Whether a patch that climbs the margins of the bands it touches changes the vote of each picture, wherever of a few places it lies."""
    fallen = torch.zeros(len(images), dtype=torch.bool)
    for left in (9, 14, 19):
        fallen |= _climbed(model, images, labels, ((32 - patch) // 2, left, patch), unseen)
    return fallen


def _climbed(model: Classifier, images: Tensor, labels: Tensor, place: tuple[int, int, int], unseen: str) -> Tensor:
    top, left, patch = place
    inside = torch.zeros(1, 1, 32, 32)
    inside[..., top : top + patch, left : left + patch] = 1.0
    moved = torch.where(inside.bool(), Draws(0, f"patch {place}", [str(i) for i in range(len(images))]).uniform(3, 32, 32), images)
    fallen = vote(model, moved, unseen) != labels
    for _ in range(6):
        leaf = moved.clone().requires_grad_(True)
        logits = all_looks(model, leaf, unseen)
        own = logits.gather(2, labels.view(-1, 1, 1).expand(-1, BANDS.count, 1))[..., 0]
        others = logits.scatter(2, labels.view(-1, 1, 1).expand(-1, BANDS.count, 1), -torch.inf).amax(dim=2)
        (slope,) = torch.autograd.grad((others - own).clamp(max=1.0).sum(), leaf)
        moved = (moved + 0.25 * slope.sign() * inside).clamp(0.0, 1.0)
        fallen |= vote(model, moved, unseen) != labels
    return fallen


@pytest.mark.slow
@pytest.mark.parametrize(("patch", "unseen"), [(2, "dropped"), (5, "dropped"), (2, "kept")])
def test_no_patch_flips_what_is_certified_and_the_same_attack_flips_much_of_the_rest(patch: int, unseen: str) -> None:
    model, batch, told = certified(unseen)
    by_count = told["votes_first"] - told["votes_second"] > 2 * BANDS.touched(patch)
    holds = by_count | (told["patch_held"] >= patch)
    fallen = attacked(model, batch.images, told["vote"].long(), patch, unseen)
    assert int(holds.sum()) >= 3
    assert not bool(fallen[holds].any())
    assert bool(fallen[~holds].any())


def test_a_certificate_that_counted_too_few_bands_would_be_caught() -> None:
    """With the votes of a patch of one pixel taken for those of eight, the same attack refutes it: the law above can fail."""
    model, batch, told = certified("dropped")
    claimed = told["votes_first"] - told["votes_second"] > 2 * BANDS.touched(1)
    assert bool(attacked(model, batch.images, told["vote"].long(), 8, "dropped")[claimed].any())
