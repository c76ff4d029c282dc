"""The votes of a certificate, and what the Records keep of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustvit.errors import ModelError, RobustvitError

_OWN = ("pred", "radius", "level", "tokens", "patch_held")


@dataclass
class Votes:
    """What a certificate returns. counts: (N, K) whole numbers, the votes that each class of the data's first reading got, each vote for one class alone.

    final: whether all votes were counted, so that the class with the most is the smoothed model's answer. columns: further columns of the Records, one
    value for each sample: pred, radius, level, tokens, patch_held, or value_NAME; a certificate that may abstain tells `pred`, −1 where it does.
    """

    counts: Tensor
    final: bool = True
    columns: dict[str, Tensor] = field(default_factory=dict)


def finite(logits: Tensor, label: str, what: str) -> Tensor:
    """The logits (n, K). Raises ModelError where one is not a finite number: a vote read from it would be nonsense. label: the model's; what: it was shown."""
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"model '{label}' gives logits that are not finite numbers on {what}: no vote can be read from them.")
    return logits


def refuse_odd(votes: Votes, shape: tuple[int, int], name: str) -> None:
    """Raises RobustvitError where a certificate returns no votes: shape (pictures, classes), whole numbers from 0 and not all 0, columns of its own."""
    counts = votes.counts
    if not isinstance(counts, Tensor) or tuple(counts.shape) != shape:
        got = tuple(counts.shape) if isinstance(counts, Tensor) else type(counts).__name__
        raise RobustvitError(f"certificate '{name}' must return counts of shape {shape}, (pictures, classes); it returned {got}.")
    if counts.is_floating_point() or bool((counts < 0).any()) or not bool((counts.sum(dim=1) > 0).all()):
        raise RobustvitError(
            f"certificate '{name}' must return counts that are whole numbers from 0, and at least one vote for each picture."
        )
    for column, values in votes.columns.items():
        if column not in _OWN and not column.startswith("value_"):
            raise RobustvitError(f"certificate '{name}' tells a column '{column}'; its own are {', '.join(_OWN)} and value_NAME.")
        if tuple(values.shape) != shape[:1]:
            raise RobustvitError(
                f"certificate '{name}' must tell one '{column}' for each of {shape[0]} pictures; it told {tuple(values.shape)}."
            )
    pred = votes.columns.get("pred")
    if pred is not None and (pred.is_floating_point() or bool(((pred < -1) | (pred >= shape[1])).any())):
        raise RobustvitError(f"certificate '{name}' must tell classes 0 to {shape[1] - 1} in 'pred', or -1 where it abstains.")


def told(votes: Votes, labels: Tensor) -> dict[str, Tensor]:
    """Columns of the Records: the class with the most votes (the lowest of equals), the most, the second most, the label's, and how many were counted."""
    counts = votes.counts
    leader = counts.argmax(dim=1)
    second = counts.scatter(1, leader[:, None], -1).amax(dim=1).clamp_min(0)
    found = {
        "vote": leader, "votes_first": counts.gather(1, leader[:, None])[:, 0], "votes_second": second,
        "votes_label": counts.gather(1, labels[:, None])[:, 0], "votes": counts.sum(dim=1),
    }  # fmt: skip
    answer = {"pred": leader} if votes.final else {}
    return {name: value if value.is_floating_point() else value.to(torch.int32) for name, value in (found | answer | votes.columns).items()}
