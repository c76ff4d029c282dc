"""What attacks maximise: losses of logits, one value for each sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−log p(label), natural. (N, K), (N,) → (N,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log (1 − p(label)) − log p(label). The cross-entropy is log (1 + e to this), so that their gradients point the same way; this one does not vanish
    where float32 rounds p(label) to 1."""
    return _others(logits, labels).logsumexp(dim=1) - _own(logits, labels)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The best other logit minus the label's: positive exactly where the answer is wrong."""
    return _others(logits, labels).amax(dim=1) - _own(logits, labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, eq. 6): the margin over the distance from the first to the third largest logit.

    It takes three classes; with two it is the margin, since there is no third to divide by.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    ranked = logits.topk(3, dim=1).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + _TINY)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR (Croce and Hein 2020, eq. 7): the target's logit minus the label's, over z₁ − (z₃ + z₄) / 2.

    With three classes z₄ is z₃; with two it is the difference alone.
    """
    difference = _own(logits, targets) - _own(logits, labels)
    if logits.shape[1] < 3:
        return difference
    ranked = logits.topk(min(4, logits.shape[1]), dim=1).values
    return difference / (ranked[:, 0] - (ranked[:, 2] + ranked[:, -1]) / 2 + _TINY)


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.masked_fill(torch.nn.functional.one_hot(labels, logits.shape[1]).bool(), -torch.inf)
