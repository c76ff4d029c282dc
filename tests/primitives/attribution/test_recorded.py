"""Scores of classes that attribution maps are gradients of."""

from __future__ import annotations

import torch

from robustvit.primitives.attribution.recorded import own_scores


def test_a_single_logit_is_of_the_second_class_as_two_opposite_ones_are() -> None:
    logits, classes = torch.tensor([[3.0], [-1.0], [2.0]], requires_grad=True), torch.tensor([0, 1, 1])
    score = own_scores(logits, classes)
    assert score.item() == -1.5 - 0.5 + 1.0
    (gradient,) = torch.autograd.grad(score, logits)
    assert gradient[:, 0].tolist() == [-0.5, 0.5, 0.5]
    several = torch.tensor([[1.0, 2.0], [5.0, 7.0], [8.0, 9.0]])
    assert float(own_scores(several, classes)) == 1.0 + 7.0 + 9.0
