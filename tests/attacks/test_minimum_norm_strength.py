"""How strong the attacks are at a fixed budget, beside those of other libraries, on a trained network: a gate, not a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from curved import batch, draws, trained
from torch import Tensor, nn

from robustvit.attacks.fab import fab, fab_t
from robustvit.attacks.minimum_norm import cw, ddn, fmn
from robustvit.attacks.square import square
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.norms import Measure, size

pytestmark = pytest.mark.slow
COUNT = 48
SLACK = 1.03  # how much larger a norm may be: both searches stop short of the boundary by about as much
STEPS = 12  # of FAB


@pytest.fixture(scope="module")
def model() -> Classifier:
    return trained(COUNT)


@pytest.fixture(scope="module")
def given(model: Classifier) -> Batch:
    return batch(model, COUNT, torch.float32)


def found(model: Classifier, given: Batch, crafted: Tensor, norm: Measure) -> Tensor:
    """The norm of each sample's perturbation, infinite where it does not fool the model."""
    pixels = crafted.clamp(0, 1)
    fooled = model(pixels).argmax(dim=1) != given.labels
    return torch.where(fooled, size(pixels - given.images, norm), torch.inf)


def area(norms: Tensor, longest: float) -> float:
    """The area under the curve of robust accuracy over the radius, as a share of that of a model that nothing fools."""
    return float(norms.clamp(max=longest).mean() / longest)


def assert_as_near(ours: Tensor, theirs: Tensor) -> None:
    """No fewer samples are fooled, and neither the median nor the area under the security curve is larger by more than the slack."""
    assert bool(torch.isfinite(ours).sum() >= torch.isfinite(theirs).sum())
    assert float(ours.median()) <= SLACK * float(theirs.median())
    longest = 2 * float(ours.median())
    assert area(ours, longest) <= SLACK * area(theirs, longest)


class Clipped(nn.Module):
    """The model for peers, whose pixels may pass one by the rounding of a sum; its gradient is that of the model, at the edges too."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels + (pixels.clamp(0, 1) - pixels).detach())
        return logits


def foolbox_result(name: str, model: Classifier, given: Batch, **params: Any) -> Tensor:
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed: robustvit[foolbox]")
    peer = foolbox.PyTorchModel(Clipped(model).eval(), bounds=(0, 1), device="cpu")
    adversarial: Tensor = getattr(foolbox.attacks, name)(**params).run(peer, given.images, foolbox.criteria.Misclassification(given.labels))
    return adversarial


@pytest.mark.parametrize("radius", [0.3, 1.0])
def test_ddn_is_as_near_as_that_of_foolbox(radius: float, model: Classifier, given: Batch) -> None:
    ours = ddn(model, given.images, given.labels, draws(given), steps=100, radius=radius).images
    theirs = foolbox_result("DDNAttack", model, given, steps=100, init_epsilon=radius)
    assert_as_near(*(found(model, given, one, "l2") for one in (ours, theirs)))


@pytest.mark.long
@pytest.mark.parametrize("step", [0.1, 1.0])
@pytest.mark.parametrize(("norm", "name"), [("linf", "LInfFMNAttack"), ("l2", "L2FMNAttack"), ("l1", "L1FMNAttack"), ("l0", "L0FMNAttack")])
def test_fmn_is_as_near_as_that_of_foolbox(norm: Any, name: str, step: float, model: Classifier, given: Batch) -> None:
    ours = fmn(model, given.images, given.labels, draws(given), norm=norm, steps=100, step=step).images
    theirs = foolbox_result(name, model, given, steps=100, max_stepsize=step)
    measure: Measure = "values" if norm == "l0" else norm
    assert_as_near(*(found(model, given, one, measure) for one in (ours, theirs)))


def test_cw_is_as_near_as_that_of_foolbox(model: Classifier, given: Batch) -> None:
    ours = cw(model, given.images, given.labels, draws(given), steps=100, searches=6, rate=0.03, weight=0.1).images
    theirs = foolbox_result("L2CarliniWagnerAttack", model, given, steps=100, binary_search_steps=6, stepsize=0.03, initial_const=0.1)
    assert_as_near(*(found(model, given, one, "l2") for one in (ours, theirs)))


@pytest.mark.long
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("attack", [fab, fab_t])
def test_fab_is_as_near_as_that_of_its_authors(norm: Any, attack: Callable[..., Any], model: Classifier, given: Batch) -> None:
    peer = pytest.importorskip("pyautoattack.fab_pt", reason="pyautoattack is not installed: robustvit[pyautoattack]")
    targeted = attack is fab_t
    classes = {"targets": 3} if targeted else {}
    ours = attack(model, given.images, given.labels, draws(given), norm=norm, steps=STEPS, **classes).images
    theirs, nearest = (
        peer.FABAttack_PT(model, norm=norm.title(), n_iter=20, device="cpu", targeted=targeted),
        torch.full((COUNT,), torch.inf),
    )
    for target in range(2, 5) if targeted else [0]:
        theirs.target_class = target
        adversarial = theirs.attack_single_run(given.images, given.labels, is_targeted=targeted)
        nearest = torch.minimum(nearest, found(model, given, adversarial, norm))
    assert_as_near(found(model, given, ours, norm), nearest)


@pytest.mark.long
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 1.3), ("l1", 12.0)])
def test_square_fools_as_many_as_that_of_its_authors(norm: Any, eps: float, model: Classifier, given: Batch) -> None:
    """With other random numbers: the mean robust accuracy of three seeds on the same images is at most six points higher."""
    peer = pytest.importorskip("pyautoattack.square", reason="pyautoattack is not installed: robustvit[pyautoattack]")
    ours, theirs = [], []
    for seed in range(3):
        crafted = square(model, given.images, given.labels, draws(given, seed), eps=eps, norm=norm, steps=300).images
        attack = peer.SquareAttack(Clipped(model), norm=norm.title(), eps=eps, n_queries=300, seed=seed, device="cpu", resc_schedule=False)
        for results, adversarial in ((ours, crafted), (theirs, attack.perturb(given.images, given.labels))):
            results.append(float((model(adversarial.clamp(0, 1)).argmax(dim=1) == given.labels).float().mean()))
    mean = sum(theirs) / 3
    assert 0.05 < mean < 0.95
    assert sum(ours) / 3 <= mean + 0.06
