"""What attacks maximise, by hand."""

import pytest
import torch

from robustvit.attacks.losses import cross_entropy, dlr, dlr_targeted, margin

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 5.0, 1.0]])
LABELS = torch.tensor([0, 1])


def test_the_margin_is_positive_where_the_answer_is_wrong() -> None:
    assert margin(LOGITS, LABELS).tolist() == [-2.0, 3.0]


def test_the_logits_ratio_divides_by_the_distance_from_first_to_third() -> None:
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-2 / 3, 3 / 4])
    assert torch.allclose(dlr(7 * LOGITS + 2, LABELS), dlr(LOGITS, LABELS))


def test_the_targeted_ratio_divides_by_the_mean_of_third_and_fourth() -> None:
    assert dlr_targeted(LOGITS, LABELS, torch.tensor([1, 2])).tolist() == pytest.approx([-2 / 3.5, 3 / (5 - 0.5)])


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_have_losses_that_are_numbers(classes: int) -> None:
    few, labels, targets = LOGITS[:, :classes], torch.tensor([0, 1]), torch.tensor([1, 0])
    for values in (cross_entropy(few, labels), margin(few, labels), dlr(few, labels), dlr_targeted(few, labels, targets)):
        assert bool(torch.isfinite(values).all())
        assert values.shape == (2,)
