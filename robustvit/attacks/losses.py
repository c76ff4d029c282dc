"""The losses that attacks maximise, one value for each sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.attack_search import Loss, Search

_TINY = 1e-12


def untargeted(loss: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> Loss:
    """A loss of logits and labels as `Search.query_gradient` takes it: of the labels (N,) it uses those of the rows it is given."""
    return lambda logits, rows: loss(logits, labels[rows])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−log p(label), natural logarithm. (N, K), (N,) → (N,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """The log odds against the label, log (1 − p(label)) − log p(label).

    The cross-entropy is log (1 + exp(this)), so their gradients point the same way; this one does not vanish where float32 rounds p(label)
    to 1.
    """
    return _other_logits(logits, labels).logsumexp(dim=1) - _logit_of(logits, labels)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The best other logit minus the label's: positive exactly where the prediction is wrong."""
    return _other_logits(logits, labels).amax(dim=1) - _logit_of(logits, labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, eq. 6): the margin over the distance from the first to the third largest logit.

    Needs three classes; with two it is the margin, since there is no third logit to divide by.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    ranked = logits.topk(3, dim=1).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + _TINY)


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR (Croce and Hein 2020, eq. 7): the target's logit minus the label's, over z₁ − (z₃ + z₄) / 2.

    With three classes z₄ is z₃; with two classes it is the difference alone.
    """
    difference = _logit_of(logits, targets) - _logit_of(logits, labels)
    if logits.shape[1] < 3:
        return difference
    ranked = logits.topk(min(4, logits.shape[1]), dim=1).values
    return difference / (ranked[:, 0] - (ranked[:, 2] + ranked[:, -1]) / 2 + _TINY)


def _logit_of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _other_logits(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.masked_fill(functional.one_hot(labels, logits.shape[1]).bool(), -torch.inf)


def wrong_classes(search: Search) -> Tensor:
    """The classes other than the label, (N, K − 1), the most likely on the clean image first."""
    logits = torch.cat([search.model(part) for part in torch.split(search.images, 4096)])
    return _other_logits(logits, search.labels).argsort(dim=1, descending=True, stable=True)[:, :-1]
