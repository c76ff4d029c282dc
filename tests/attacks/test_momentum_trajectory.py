"""The transferable attacks on a trained network, query by query, against loops written from the papers, and beside torchattacks."""

from __future__ import annotations

from typing import Any

import gradient_references as papers
import numpy as np
import pytest
import torch
from trained import Array, Digits, Recorder, Trail, batch, network, outcome

from robustvit.attacks.momentum import di_fgsm, mi_fgsm, ni_fgsm, si_ni_fgsm, ti_fgsm
from robustvit.attacks.transfer import transfer
from robustvit.primitives.draws import Draws

COUNT = 8
EPS = {"linf": 9 / 255, "l2": 0.6, "l1": 24.0}
DRAWS = Draws(0, "x", [str(i) for i in range(COUNT)])


def diverse(i: int) -> papers.Rule:
    """DI with the numbers that the attack draws for sample i, and its published probability and sizes."""

    def rule(sample: papers.Sample, at: Array, turn: int) -> Array:
        numbers = DRAWS.at(turn).uniform(4)[i].numpy()
        return sample.gradient(at, papers.ce(sample.label), lambda pixels: papers.resized(pixels, numbers, 0.5, 0.9))[1]

    return rule


# the attack, its own parameters, the rule of sample i, and how the reference iterates
CASES: dict[str, tuple[Any, dict[str, Any], Any, dict[str, Any]]] = {
    "mi": (mi_fgsm, {}, lambda i: papers.plain, {}),
    "mi, decay 0.5": (mi_fgsm, {"decay": 0.5}, lambda i: papers.plain, {"decay": 0.5}),
    "ni": (ni_fgsm, {}, lambda i: papers.plain, {"ahead": True, "extra": True}),
    "ni, decay 0.5": (ni_fgsm, {"decay": 0.5}, lambda i: papers.plain, {"decay": 0.5, "ahead": True, "extra": True}),
    "si": (si_ni_fgsm, {}, lambda i: papers.scaled_copies(5), {"ahead": True, "extra": True}),
    "di": (di_fgsm, {}, diverse, {"extra": True}),
    "ti": (ti_fgsm, {}, lambda i: papers.translated(15, 7 / 3), {}),
    "ti, 5 px": (ti_fgsm, {"width": 5, "sigma": 1.0}, lambda i: papers.translated(5, 1.0), {}),
}


@pytest.fixture(scope="module")
def digits() -> Digits:
    return batch(COUNT)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("early", [True, False], ids=["early", "whole"])
@pytest.mark.parametrize("case", CASES)
def test_every_query_is_that_of_the_paper(digits: Digits, case: str, early: bool, norm: Any) -> None:
    (attack, params, rule, how), recorder = CASES[case], Recorder(network())
    found = attack(recorder, *digits, DRAWS, eps=EPS[norm], norm=norm, early=early, **params)
    there = [papers.Sample(network(), int(label)) for label in digits.labels]
    wanted = [
        papers.momentum_iterations(one, digits.images[i].numpy(), rule(i), EPS[norm], norm, 10, EPS[norm] / 10, early=early, **how)
        for i, one in enumerate(there)
    ]
    trail = Trail(recorder)
    trail.expect([one.path for one in there])
    trail.end()
    assert np.allclose(found.images.numpy(), wanted, atol=1e-6)
    outcome(found, [one.path for one in there])


def test_the_step_may_be_given(digits: Digits) -> None:
    recorder, one = Recorder(network()), papers.Sample(network(), int(digits.labels[0]))
    mi_fgsm(recorder, digits.images[:1], digits.labels[:1], DRAWS[torch.arange(1)], eps=0.01, step=0.004, steps=6)
    papers.momentum_iterations(one, digits.images[0].numpy(), papers.plain, 0.01, "linf", 6, 0.004)
    trail = Trail(recorder)
    trail.expect([one.path])
    trail.end()


def test_half_of_the_inputs_are_resized_to_every_size_from_nine_tenths(digits: Digits) -> None:
    """Of what the model is shown in 60 steps: a resized 16 px image has zeros at its edge, and 14, 15 or 16 pixels a side."""
    recorder = Recorder(network())
    di_fgsm(recorder, digits.images.clamp(min=0.1), digits.labels, DRAWS, eps=1e-6, steps=60, early=False)
    seen = np.concatenate([query.pixels for query in recorder.queries if query.pull is not None])
    sides = (seen > 0).any(axis=1).any(axis=1).sum(axis=1)
    assert set(sides.tolist()) == {14, 15, 16}
    assert 0.3 < float((sides < 16).mean()) < 0.45  # half of them, but for those that are resized to 16 px


@pytest.mark.parametrize(
    ("name", "attack", "params"), [("MIFGSM", mi_fgsm, {}), ("NIFGSM", ni_fgsm, {}), ("TIFGSM", ti_fgsm, {"diversity_prob": 0.0})]
)
def test_torchattacks_makes_the_same_images(digits: Digits, name: str, attack: Any, params: dict[str, float]) -> None:
    """In float32 on images in which no pixel ahead is outside [0, 1]; signs of gradients that rounding decides may differ."""
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed: robustvit[torchattacks]")
    images = (0.2 + 0.6 * digits.images).float()
    model = Recorder(network()).double()
    theirs = getattr(torchattacks, name)(_Float(model), eps=8 / 255, alpha=1 / 255, steps=8, decay=1.0, **params)(images, digits.labels)
    ours = attack(model, images.double(), digits.labels, DRAWS, eps=8 / 255, steps=8, early=False).images
    assert float(((ours - theirs).abs() > 1e-5).double().mean()) < 2e-3


class _Float(torch.nn.Module):
    """A float64 model for a library that computes in float32; it clips nothing that is asked."""

    def __init__(self, model: Recorder) -> None:
        super().__init__()
        self.model, self.weight = model.model, torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images.double())
        return logits.float()


def test_transferred_images_are_those_of_the_attack_on_the_surrogate_and_the_model_is_never_queried(digits: Digits) -> None:
    model, surrogate = Recorder(network()), Recorder(network(1))

    def attack(*given: Any) -> Any:
        return mi_fgsm(*given, eps=0.05, early=False)

    found = transfer(model, *digits, DRAWS, surrogate=surrogate, attack=attack)
    assert not model.queries
    there = [papers.Sample(network(1), int(label)) for label in digits.labels]
    wanted = [
        papers.momentum_iterations(one, image, papers.plain, 0.05, "linf", 10, 0.005, early=False)
        for one, image in zip(there, digits.images.numpy(), strict=True)
    ]
    assert np.allclose(found.images.numpy(), wanted, atol=1e-6)
    assert found.columns["queries"].tolist() == [11] * COUNT
    assert 0 < int((network()(found.images).argmax(dim=1) != digits.labels).sum()) < COUNT
