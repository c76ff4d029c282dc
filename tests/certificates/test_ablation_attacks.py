"""Certificates by ablations, against every patch at every place with every effect on the votes that it touches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from robustvit.primitives.votes import Votes, vote_columns
from robustvit.spec.ablations import Ablations, Kind

CLASSES = 3
CASES: list[tuple[Kind, int, int, tuple[int, int]]] = [
    ("columns", 1, 1, (5, 5)), ("columns", 2, 1, (5, 5)), ("columns", 2, 2, (4, 6)), ("rows", 2, 2, (7, 4)), ("blocks", 1, 2, (3, 5)),
    ("both", 1, 2, (4, 4)),
]  # fmt: skip


def majority(votes: np.ndarray) -> int:
    """The class of most votes, the lowest of equals, as the Records have it."""
    counts = torch.from_numpy(np.bincount(votes, minlength=CLASSES))[None]
    return int(vote_columns(Votes(counts), torch.tensor([0]))["vote"])


def touched_sets(every: Ablations, patch: int) -> set[tuple[int, ...]]:
    """The ablations that show a pixel of the patch, for each of its places."""
    window = every.window(np.arange(every.count))
    visible = window.rows[:, :, None] & window.columns[:, None, :]
    height, width = every.size
    places = itertools.product(range(height - patch + 1), range(width - patch + 1))
    return {tuple(visible[:, y : y + patch, x : x + patch].any(axis=(1, 2)).nonzero()[0].tolist()) for y, x in places}


def can_change(every: Ablations, votes: np.ndarray, patch: int, ties: bool) -> bool:
    """Whether a patch can change the prediction. ties: whether it does where its class only draws level."""
    first = int(np.bincount(votes, minlength=CLASSES).argmax())
    for touched in touched_sets(every, patch):
        for forced in itertools.product(range(CLASSES), repeat=len(touched)):
            changed = votes.copy()
            changed[list(touched)] = forced
            counts = np.bincount(changed, minlength=CLASSES)
            if majority(changed) != first or (ties and max(np.delete(counts, first)) == counts[first]):
                return True
    return False


def elections(every: Ablations) -> list[np.ndarray]:
    """All sorts of votes, the close ones among them."""
    whole = [np.array(one) for one in itertools.product(range(CLASSES), repeat=every.count)]
    return [whole[at] for at in np.random.default_rng(0).choice(len(whole), min(40, len(whole)), replace=False)] + [
        np.full(every.count, label) for label in range(CLASSES)
    ]


@pytest.mark.parametrize(("kind", "width", "stride", "size"), CASES)
def test_nothing_changes_what_is_certified_and_by_place_everything_else_can_be_changed(
    kind: Kind, width: int, stride: int, size: tuple[int, int]
) -> None:
    every = Ablations(kind, width, stride, size)
    for votes in elections(every):
        first, second = np.sort(np.bincount(votes, minlength=CLASSES))[::-1][:2]
        held = every.largest_patch_by_place(votes, CLASSES)
        for patch in range(1, min(size) + 1):
            if first - second > 2 * every.touched(patch):
                assert not can_change(every, votes, patch, ties=True)
            assert can_change(every, votes, patch, ties=True) == (patch > held)


def test_a_lead_of_twice_the_touched_votes_does_not_suffice() -> None:
    """A patch on two bands of seven turns 5 to 1 into 3 to 3: a tie, which goes to the lower class."""
    every = Ablations("columns", 2, 1, (6, 6))
    assert every.touched(1) == 2
    for votes, changed in ((np.array([1, 1, 1, 1, 1, 0]), True), (np.array([0, 0, 0, 0, 0, 1]), False)):
        assert can_change(every, votes, 1, ties=False) == changed
        assert every.largest_patch_by_place(votes, 2) == 0
