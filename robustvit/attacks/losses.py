"""The losses that attacks maximise, one value for each sample.

None of them saturates, and none of their gradients vanishes because logits are large or small: where a paper follows the gradient of the
cross-entropy, attacks follow that of the log odds, which points the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.attack_search import Loss, Search

Target = Literal["label", "second", "least_likely"]
"""What an attack aims at: any class but the label, the most likely wrong class of the clean image, or its least likely class."""

_LINEAR = 40.0  # where the cross-entropy and the log odds differ by less than float64 resolves
_AT_ONCE = 4096  # images whose clean logits are computed together


def untargeted(loss: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> Loss:
    """A loss of logits and labels as `Search.query_gradient` takes it: of the labels (N,) it uses those of the rows it is given."""
    return lambda logits, rows: loss(logits, labels[rows])


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """The log odds against the label, log (1 − p(label)) − log p(label). (N, K), (N,) → (N,).

    The cross-entropy is log (1 + exp(this)): both rise together, and the gradient of each sample's cross-entropy is (1 − p(label)) times
    that of its log odds. This one does not vanish where float32 rounds p(label) to 1. Where gradients of several samples or draws are
    averaged, log odds weigh them alike and the cross-entropy by 1 − p(label).
    """
    return _other_logits(logits, labels).logsumexp(dim=1) - _logit_of(logits, labels)


def log_odds_at(cross_entropy: float) -> float:
    """The log odds against the label where the cross-entropy has a value above 0: log (exp(value) − 1)."""
    return math.log(math.expm1(cross_entropy)) if cross_entropy < _LINEAR else cross_entropy


def cross_entropy_loss(search: Search, target: Target) -> Loss:
    """The log odds against the label, or for the target: they rise as the label's cross-entropy rises, or as the target's falls."""
    if target == "label":
        return untargeted(log_odds, search.labels)
    aims = target_classes(search, target)
    return lambda logits, rows: -log_odds(logits, aims[rows])


def dlr_loss(search: Search, target: Target) -> Loss:
    """The difference of logits ratio against the label, or its targeted form."""
    return untargeted(dlr, search.labels) if target == "label" else dlr_towards(search.labels, target_classes(search, target))


def dlr_towards(labels: Tensor, targets: Tensor) -> Loss:
    """The targeted difference of logits ratio as `Search.query_gradient` takes it. labels, targets: (N,)."""
    return lambda logits, rows: dlr_targeted(logits, labels[rows], targets[rows])


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
    return _ratio(margin(logits, labels), ranked[:, 0] - ranked[:, 2])


def dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR (Croce and Hein 2020, eq. 7): the target's logit minus the label's, over z₁ − (z₃ + z₄) / 2.

    It needs four classes. Of three there is no fourth logit, and with z₃ in its place the ratio is −1 wherever the target comes last, with
    no gradient: then the difference is divided by the label's distances from the target and from the third class, |z_y − z_t| +
    |z_y − z_o|, which likewise depends neither on the scale of the logits nor on their mean. With two classes it is the difference alone.
    """
    difference = _logit_of(logits, targets) - _logit_of(logits, labels)
    if logits.shape[1] < 3:
        return difference
    if logits.shape[1] == 3:
        return _ratio(difference, difference.abs() + (_logit_of(logits, 3 - labels - targets) - _logit_of(logits, labels)).abs())
    ranked = logits.topk(4, dim=1).values
    return _ratio(difference, ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2)


def _ratio(difference: Tensor, spread: Tensor) -> Tensor:
    """`difference` over `spread`, and itself where the spread is zero, as where all logits tie."""
    return difference / spread.where(spread > 0, 1.0)


def _logit_of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _other_logits(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.masked_fill(functional.one_hot(labels, logits.shape[1]).bool(), -torch.inf)


def wrong_classes(search: Search) -> Tensor:
    """The classes other than the label, (N, K − 1), the most likely on the clean image first."""
    rows = torch.arange(len(search.images), device=search.images.device)
    with torch.no_grad():
        logits = torch.cat([search.model_of(part)(search.images[part]) for part in torch.split(rows, _AT_ONCE)])
    return _other_logits(logits, search.labels).argsort(dim=1, descending=True, stable=True)[:, :-1]


def target_classes(search: Search, target: Target) -> Tensor:
    """The class that each sample is to be taken for, (N,): of the wrong ones, the most or the least likely on the clean image."""
    return wrong_classes(search)[:, 0 if target == "second" else -1]
