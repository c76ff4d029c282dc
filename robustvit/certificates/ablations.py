"""Certificates against patches, by votes on ablated pictures (derandomised smoothing).

The smoothed model answers with the class that most ablations vote for. A patch can change the votes of at most Δ ablations (`Ablations.touched`), so that an
answer holds against every patch of that size, wherever it lies and whatever is on it, when first − second > 2Δ. The Records keep both counts: the
certificate of every patch size is arithmetic on them. They also keep what counting place by place proves (`Ablations.held`), which is never less.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import Looks, Sight, Unseen, sight
from robustvit.primitives.votes import Votes, finite
from robustvit.spec.ablations import CITATION, Ablations, Kind
from robustvit.spec.registry import certificate

Count = Annotated[int, Ge(1)]

_SOURCE = "Levine and Feizi 2020; Salman et al. 2022 (ablated vision transformers)"
_URL = "https://arxiv.org/abs/2110.07719"
_LOOKS = 4096  # at once: enough to fill batches of equal length, few enough for their masks
_ROUND = 64  # looks between two checks, once a certificate may be decided: few, since some are for nothing, and enough to fill a batch


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION)
def columns(
    model: Classifier, images: Tensor, draws: Draws, *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None
) -> Votes:  # fmt: skip
    """Votes on bands of `width` columns, every `stride` pixels, around the edge. Deterministic.

    unseen: what becomes of hidden pixels. `dropped` leaves tokens out that see nothing, `kept` leaves them black: two different models. `auto` drops where
    the model is a plain transformer of timm; the Records say which in `tokens`, 0 for kept. stop_at: the side of a patch in pixels; votes are counted
    only until it is decided whether the answer holds against such a patch, which says nothing of other sizes, nor of the answer where it does not hold.
    """
    return _vote(model, images, "columns", width, stride, unseen, stop_at)


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION)
def rows(
    model: Classifier, images: Tensor, draws: Draws, *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None
) -> Votes:  # fmt: skip
    """Votes on bands of `width` rows, every `stride` pixels, around the edge. Parameters as of `columns`."""
    return _vote(model, images, "rows", width, stride, unseen, stop_at)


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION)
def both(
    model: Classifier, images: Tensor, draws: Draws, *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None
) -> Votes:  # fmt: skip
    """Votes on bands of columns and on bands of rows, counted together. Parameters as of `columns`."""
    return _vote(model, images, "both", width, stride, unseen, stop_at)


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION)
def blocks(
    model: Classifier, images: Tensor, draws: Draws, *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None
) -> Votes:  # fmt: skip
    """Votes on squares of `width` pixels, every `stride` pixels down and across, around the edges. Parameters as of `columns`."""
    return _vote(model, images, "blocks", width, stride, unseen, stop_at)


def _vote(model: Classifier, images: Tensor, kind: Kind, width: int, stride: int, unseen: Unseen, stop_at: int | None) -> Votes:
    ablations = Ablations(kind, width, stride, model.size)
    if stop_at is not None and stop_at > min(model.size):
        raise BadParameter(
            f"{kind}: stop_at is {stop_at}; a patch of a picture of {model.size[0]}x{model.size[1]} pixels has 1 to {min(model.size)}."
        )
    with torch.no_grad():
        count = _Count(sight(model, images, unseen), len(images), ablations, model.card.label)
        if stop_at is None:
            count.all()
        else:
            count.until_decided(2 * ablations.touched(stop_at))
    told = {"tokens": count.tokens} | ({"patch_held": count.held()} if stop_at is None else {})
    return Votes(count.counts.to(images.device), stop_at is None, {name: value.to(images.device) for name, value in told.items()})


class _Count:
    """The votes on N pictures so far. Ablations are looked at in one order for all, so that a row depends on its own picture alone."""

    def __init__(self, seeing: Sight, pictures: int, ablations: Ablations, label: str = "") -> None:
        self.seeing, self.ablations, self.order, self.label = seeing, ablations, ablations.order(), label
        self.standing = torch.arange(pictures)
        self.counts = torch.zeros(pictures, 0, dtype=torch.int32)
        self.tokens = torch.zeros(pictures, dtype=torch.int32)
        self.cast = np.zeros((pictures, ablations.count), dtype=np.int32)

    def held(self) -> Tensor:
        """The largest patch that each answer holds against, place by place, once all votes are counted."""
        classes = self.counts.shape[1]
        return torch.tensor([self.ablations.held(votes, classes) for votes in self.cast], dtype=torch.int32)

    def all(self) -> None:
        """Every vote on every picture."""
        self.until(0, self.ablations.count)

    def until(self, begin: int, stop: int) -> None:
        """The votes of a stretch of ablations on the pictures that stand."""
        step, rows = max(1, _LOOKS // max(1, len(self.standing))), self.standing
        for start in range(begin, stop, step):
            votes, tokens = self.look(start, min(start + step, stop))
            self.tokens[rows] += tokens.sum(dim=0, dtype=torch.int32)
            places = (rows * self.counts.shape[1] + votes).flatten()
            self.counts.view(-1).scatter_add_(0, places, torch.ones_like(places, dtype=torch.int32))
            self.cast[np.ix_(rows.numpy(), self.order[start : start + len(votes)])] = votes.T.numpy()

    def until_decided(self, gap: int) -> None:
        """Votes until first − second > gap whatever the others say, or not, for each picture by itself."""
        total = self.ablations.count
        # before so many votes nothing can be decided, but where no gap can be reached at all
        counted = min(total, max(1, min(total - gap, (total + gap) // 2 + 1)))
        self.until(0, counted)
        self.standing = self.standing[~_decided(self.counts, total - counted, gap)]
        while len(self.standing):
            stop = min(counted + max(1, _ROUND // len(self.standing)), total)
            self.round(counted, stop, gap)
            counted = stop

    def round(self, begin: int, stop: int, gap: int) -> None:
        """A few votes, of which each picture takes as many as it needs."""
        rows, left = self.standing, self.ablations.count - torch.arange(begin + 1, stop + 1)[:, None]
        votes, tokens = self.look(begin, stop)
        running = self.counts[rows] + functional.one_hot(votes, self.counts.shape[1]).int().cumsum(dim=0)
        decided = _decided(running, left, gap)
        last = torch.where(decided.any(dim=0), decided.int().argmax(dim=0), len(votes) - 1)
        here = torch.arange(len(rows))
        self.counts[rows] = running[last, here].int()
        self.tokens[rows] += tokens.cumsum(dim=0)[last, here].int()
        self.standing = rows[~decided.any(dim=0)]

    def look(self, begin: int, stop: int) -> tuple[Tensor, Tensor]:
        """The classes that a stretch of ablations votes for and the tokens that these give, (ablations, standing)."""
        window = self.ablations.window(self.order[begin:stop].repeat(len(self.standing)))
        logits = finite(self.seeing.logits(Looks(self.standing.repeat(stop - begin), window)), self.label, "ablated pictures")
        if self.counts.shape[1] == 0:
            self.counts = torch.zeros(len(self.counts), logits.shape[1], dtype=torch.int32)
        tokens = torch.from_numpy(self.seeing.tokens(window)).int()
        return logits.argmax(dim=1).cpu().view(stop - begin, -1), tokens.view(stop - begin, -1)


def _decided(counts: Tensor, left: Tensor | int, gap: int) -> Tensor:
    """(…) bool of counts (…, K): whether the votes that are left can change nothing of first − second > gap."""
    first, second = functional.pad(counts, (0, 1)).topk(2, dim=-1).values.unbind(dim=-1)  # a model of one class has no second
    return (first - second - left > gap) | (first - second + left <= gap)
