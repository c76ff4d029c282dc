"""The losses of attacks, by hand."""

import pytest
import torch

from robustvit.attacks.losses import cross_entropy, dlr, dlr_targeted, log_odds, margin

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
    (vanished,) = torch.autograd.grad(cross_entropy(sure, torch.tensor([0])).sum(), sure)
    assert vanished[0, 0] == 0.0


@pytest.mark.parametrize("classes", [2, 3])
def test_losses_of_few_classes_are_finite(classes: int) -> None:
    few, labels, targets = LOGITS[:, :classes], torch.tensor([0, 1]), torch.tensor([1, 0])
    for values in (cross_entropy(few, labels), margin(few, labels), dlr(few, labels), dlr_targeted(few, labels, targets)):
        assert bool(torch.isfinite(values).all())
        assert values.shape == (2,)
