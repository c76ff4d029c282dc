"""The losses of attacks, by hand."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from robustvit.attacks.losses import dlr, dlr_targeted, log_odds, log_odds_at, margin

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 5.0, 1.0]])
LABELS = torch.tensor([0, 1])


def test_the_margin_is_positive_where_the_prediction_is_wrong() -> None:
    assert margin(LOGITS, LABELS).tolist() == [-2.0, 3.0]


def test_the_logits_ratio_divides_by_the_distance_from_first_to_third() -> None:
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-2 / 3, 3 / 4])
    assert torch.allclose(dlr(7 * LOGITS + 2, LABELS), dlr(LOGITS, LABELS))


def test_the_targeted_ratio_divides_by_the_mean_of_third_and_fourth() -> None:
    assert dlr_targeted(LOGITS, LABELS, torch.tensor([1, 2])).tolist() == pytest.approx([-2 / 3.5, 3 / (5 - 0.5)])


def test_the_log_odds_are_those_of_the_softmax_and_their_gradient_has_the_sign_of_the_cross_entropys() -> None:
    share = LOGITS.softmax(dim=1)[torch.arange(2), LABELS]
    assert torch.allclose(log_odds(LOGITS, LABELS), ((1 - share) / share).log())
    gradients = [
        torch.autograd.functional.jacobian(lambda z, loss=loss: loss(z, LABELS).sum(), LOGITS) for loss in (log_odds, cross_entropy)
    ]
    assert torch.equal(gradients[0].sign(), gradients[1].sign())


def test_the_log_odds_have_a_gradient_where_that_of_the_cross_entropy_rounds_to_zero() -> None:
    sure = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(sure, torch.tensor([0])).sum(), sure)
    assert gradient.tolist() == [[-1.0, 0.5, 0.5]]
    (vanished,) = torch.autograd.grad(cross_entropy(sure, torch.tensor([0])), sure)
    assert vanished[0, 0] == 0.0


@pytest.mark.parametrize("classes", [2, 3])
def test_losses_of_few_classes_are_finite(classes: int) -> None:
    few, labels, targets = LOGITS[:, :classes], torch.tensor([0, 1]), torch.tensor([1, 0])
    for values in (log_odds(few, labels), margin(few, labels), dlr(few, labels), dlr_targeted(few, labels, targets)):
        assert bool(torch.isfinite(values).all())
        assert values.shape == (2,)


@pytest.mark.parametrize("value", [0.01, 1.0, 9.0, 1e3])
def test_the_log_odds_at_a_cross_entropy_have_that_cross_entropy(value: float) -> None:
    assert float(torch.nn.functional.softplus(torch.tensor(log_odds_at(value), dtype=torch.float64))) == pytest.approx(value)


@pytest.mark.parametrize("logits", [[3.0, 1.0, 0.0], [3.0, 0.0, 1.0], [3.0, 1.0, 1.0], [2.0, 3.0, 0.0]])
def test_the_targeted_ratio_of_three_classes_leads_to_the_target_and_depends_on_no_scale(logits: list[float]) -> None:
    given, label, target = torch.tensor([logits], requires_grad=True), torch.tensor([0]), torch.tensor([2])
    (gradient,) = torch.autograd.grad(dlr_targeted(given, label, target).sum(), given)
    moved = given.detach() + 0.1 * gradient
    ahead, behind = moved[0, 2] - moved[0, 0], given[0, 2] - given[0, 0]
    assert float(gradient.abs().max()) > 0
    assert float(ahead / (moved[0, 0] - moved[0, 1]).abs()) > float(behind / (given[0, 0] - given[0, 1]).abs())
    assert torch.allclose(dlr_targeted(7 * given + 2, label, target), dlr_targeted(given, label, target))


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_the_ratios_depend_on_no_scale_of_the_logits(scale: float) -> None:
    assert torch.allclose(dlr(scale * LOGITS, LABELS), dlr(LOGITS, LABELS))
    targets = torch.tensor([1, 2])
    assert torch.allclose(dlr_targeted(scale * LOGITS, LABELS, targets), dlr_targeted(LOGITS, LABELS, targets))
