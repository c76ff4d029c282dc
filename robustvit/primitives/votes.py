"""The votes of a certificate, and their columns in the Records."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustvit.errors import ModelError, RobustvitError

_OWN = ("pred", "radius", "level", "tokens", "patch_held")


@dataclass
class Votes:
    """The result of a certificate.

    counts: (N, K) whole numbers, the votes for each class of the data's first reading, each vote for one class. final: whether all votes
    were counted, so that the class with the most is the smoothed model's prediction. columns: further columns of the Records, one value
    for each sample: pred, radius, level, tokens, patch_held, or value_NAME; a certificate that may abstain returns `pred`, −1 where it
    does.
    """

    counts: Tensor
    final: bool = True
    columns: dict[str, Tensor] = field(default_factory=dict)


def require_finite(logits: Tensor, label: str, what: str) -> Tensor:
    """Returns the logits (n, K), or raises ModelError where one is not finite. label, what: the model and its input, for the message."""
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"model '{label}' gives logits that are not finite numbers on {what}: they cannot be counted as votes.")
    return logits


def check_votes(votes: Votes, shape: tuple[int, int], name: str) -> None:
    """Raises RobustvitError for votes that the Records cannot take.

    Counts must be of the shape (images, classes), whole numbers from 0 with at least one vote for each image; columns must be a
    certificate's own.
    """
    counts = votes.counts
    if not isinstance(counts, Tensor) or tuple(counts.shape) != shape:
        got = tuple(counts.shape) if isinstance(counts, Tensor) else type(counts).__name__
        raise RobustvitError(f"certificate '{name}' must return counts of shape {shape}, (images, classes); it returned {got}.")
    if counts.is_floating_point() or bool((counts < 0).any()) or not bool((counts.sum(dim=1) > 0).all()):
        raise RobustvitError(
            f"certificate '{name}' must return counts that are whole numbers from 0, and at least one vote for each image."
        )
    for column, values in votes.columns.items():
        if column not in _OWN and not column.startswith("value_"):
            raise RobustvitError(f"certificate '{name}' returns a column '{column}'; it may return {', '.join(_OWN)} and value_NAME.")
        if tuple(values.shape) != shape[:1]:
            raise RobustvitError(
                f"certificate '{name}' must return one '{column}' for each of {shape[0]} images; its shape is {tuple(values.shape)}."
            )
    pred = votes.columns.get("pred")
    if pred is not None and (pred.is_floating_point() or bool(((pred < -1) | (pred >= shape[1])).any())):
        raise RobustvitError(f"certificate '{name}' must return classes 0 to {shape[1] - 1} in 'pred', or -1 where it abstains.")


def vote_columns(votes: Votes, labels: Tensor) -> dict[str, Tensor]:
    """Columns of the Records: the class with most votes (the lowest of equals), and the votes of the first, the second, the label, all."""
    counts = votes.counts
    leader = counts.argmax(dim=1)
    second = counts.scatter(1, leader[:, None], -1).amax(dim=1).clamp_min(0)
    counted = {
        "vote": leader, "votes_first": counts.gather(1, leader[:, None])[:, 0], "votes_second": second,
        "votes_label": counts.gather(1, labels[:, None])[:, 0], "votes": counts.sum(dim=1),
    }  # fmt: skip
    columns = counted | ({"pred": leader} if votes.final else {}) | votes.columns
    return {name: value if value.is_floating_point() else value.to(torch.int32) for name, value in columns.items()}
