"""The votes of a certificate, and what the Records keep of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Votes:
    """What a certificate returns. counts: (N, K) whole numbers, the votes that each class of the data's first reading got, each vote for one class alone.

    final: whether all votes were counted, so that the class with the most is the smoothed model's answer. columns: further columns of the Records, one
    value for each sample; a certificate that may abstain tells `pred`, −1 where it does.
    """

    counts: Tensor
    final: bool = True
    columns: dict[str, Tensor] = field(default_factory=dict)


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
