"""Minimum-norm attacks on a linear model, whose nearest boundary is known."""

import pytest
import torch
from exact import images, linear, needed

from robustvit.attacks.fab import fab, fab_t
from robustvit.attacks.losses import margin
from robustvit.attacks.minimum_norm import cw, ddn, fmn
from robustvit.primitives.draws import Draws
from robustvit.primitives.norms import project_l0, size

NORMS = ("linf", "l2", "l1")
IDS = tuple(str(i) for i in range(12))
ATTACKS = [
    ("ddn", "l2", lambda *given: ddn(*given, steps=300, radius=0.1), 1.05),
    ("cw", "l2", lambda *given: cw(*given, steps=300, searches=8), 1.1),
    *[("fmn", norm, lambda *given, norm=norm: fmn(*given, norm=norm, steps=300, step=0.1), 1.2) for norm in NORMS],
    *[("fab", norm, lambda *given, norm=norm: fab(*given, norm=norm, steps=20), 1.05) for norm in NORMS],
    *[("fab_t", norm, lambda *given, norm=norm: fab_t(*given, norm=norm, steps=20), 1.05) for norm in NORMS],
]


@pytest.mark.parametrize(("norm", "attack", "slack"), [case[1:] for case in ATTACKS], ids=[f"{case[0]}-{case[1]}" for case in ATTACKS])
def test_what_is_found_is_near_the_boundary_and_never_nearer(norm: str, attack, slack: float) -> None:  # type: ignore[no-untyped-def]
    model, weight = linear()
    pixels = images(12)
    logits = model(pixels)
    distance = needed(logits, weight, norm)
    labels = logits.argmax(dim=1)
    crafted = attack(model, pixels, labels, Draws(0, "x", IDS)).images
    found = size(crafted - pixels, norm)  # type: ignore[arg-type]
    assert bool((model(crafted).argmax(dim=1) != labels).all())
    assert bool((found > distance * (1 - 1e-3)).all())
    assert float((found / distance).median()) < slack


def test_a_projection_onto_few_values_keeps_the_largest() -> None:
    delta = torch.tensor([[[[1.0, -3.0], [2.0, 2.0]]], [[[0.5, 0.0], [0.0, -0.1]]]])
    kept = project_l0(delta, torch.tensor([2.0, 9.0]))
    assert kept.flatten(1).tolist() == [[0.0, -3.0, 2.0, 0.0], delta[1].flatten().tolist()]


def test_cw_keeps_images_that_reach_the_confidence() -> None:
    model, weight = linear()
    pixels = images(12)
    logits = model(pixels)
    labels, reach = logits.argmax(dim=1), 0.5
    crafted = cw(model, pixels, labels, Draws(0, "x", IDS), steps=300, searches=8, confidence=reach).images
    after = margin(model(crafted), labels)
    distance = (needed(logits, weight, "l2") + reach / weight.norm()).double()
    assert bool((after >= reach).all())
    assert float((size(crafted - pixels, "l2") / distance).median()) < 1.1


def test_cw_keeps_an_image_that_is_misclassified_where_none_reaches_the_confidence() -> None:
    model, _ = linear()
    pixels = images(12)
    labels = model(pixels).argmax(dim=1)
    crafted = cw(model, pixels, labels, Draws(0, "x", IDS), steps=100, searches=6, confidence=1e6)
    assert bool((model(crafted.images).argmax(dim=1) != labels).all())
    assert bool(crafted.fooled.all())  # type: ignore[union-attr]
