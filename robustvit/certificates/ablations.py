"""Certificates against adversarial patches, by votes on ablated images (derandomised smoothing).

The smoothed model predicts the class that most ablations vote for. A patch can change the votes of at most Δ ablations
(`Ablations.touched`), so that a prediction is certified against every patch of that size, anywhere and with any content, when first −
second > 2Δ. The Records keep both counts: the certificate of every patch size is arithmetic on them. They also keep the largest patch
that counting place by place certifies (`Ablations.largest_patch_by_place`), which is never smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.masked_inference import MaskedModel, MaskedViews, Unseen, mask_model
from robustvit.primitives.limits import Count
from robustvit.primitives.passes import Passes
from robustvit.primitives.votes import Votes, require_finite
from robustvit.spec.ablations import CITATION, Ablations, Kind, Window
from robustvit.spec.registry import certificate
from robustvit.spec.spec import Spec

_SOURCE = "Levine and Feizi 2020; Salman et al. 2022 (ablated vision transformers)"
_URL = "https://arxiv.org/abs/2110.07719"
_AT_ONCE = 4096  # masked views: enough to fill batches of equal length, few enough for their masks
_ROUND = 64  # masked views between two checks, once a certificate may be decided: few, since some are wasted, and enough to fill a batch


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION, passes="ablation_passes")
def columns(
    model: Classifier, images: Tensor, draws: Draws,
    *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None,
) -> Votes:  # fmt: skip
    """Votes on bands of `width` columns, every `stride` pixels, around the edge. Deterministic.

    unseen: how hidden pixels are treated. `dropped` drops tokens without a visible pixel, `kept` keeps them, black: two different models.
    `auto` drops where the model is a plain transformer of timm; the Records show which in `tokens`, 0 for kept. stop_at: the side of a
    patch in pixels; votes are counted only until it is decided whether the prediction is certified against such a patch. That certifies
    no other size, and gives no prediction where it fails.
    """
    return _vote(model, images, "columns", width, stride, unseen, stop_at)


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION, passes="ablation_passes")
def rows(
    model: Classifier, images: Tensor, draws: Draws,
    *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None,
) -> Votes:  # fmt: skip
    """Votes on bands of `width` rows, every `stride` pixels, around the edge. Parameters as of `columns`."""
    return _vote(model, images, "rows", width, stride, unseen, stop_at)


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION, passes="ablation_passes")
def both(
    model: Classifier, images: Tensor, draws: Draws,
    *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None,
) -> Votes:  # fmt: skip
    """Votes on bands of columns and on bands of rows, counted together. Parameters as of `columns`."""
    return _vote(model, images, "both", width, stride, unseen, stop_at)


@certificate(family="patch", source=_SOURCE, url=_URL, citation=CITATION, passes="ablation_passes")
def blocks(
    model: Classifier, images: Tensor, draws: Draws,
    *, width: Count, stride: Count = 1, unseen: Unseen = "auto", stop_at: Count | None = None,
) -> Votes:  # fmt: skip
    """Votes on squares of `width` pixels, every `stride` pixels down and across, around the edges. Parameters as of `columns`."""
    return _vote(model, images, "blocks", width, stride, unseen, stop_at)


def _vote(model: Classifier, images: Tensor, kind: Kind, width: int, stride: int, unseen: Unseen, stop_at: int | None) -> Votes:
    ablations = Ablations(kind, width, stride, model.size)
    if stop_at is not None and stop_at > min(model.size):
        raise BadParameter(
            f"{kind}: stop_at is {stop_at}; a patch on images of {model.size[0]}x{model.size[1]} pixels has 1 to {min(model.size)} pixels "
            "a side."
        )
    with torch.no_grad():
        count = _VoteCount(mask_model(model, images, unseen), len(images), ablations, model.card.label)
        if stop_at is None:
            count.count_all()
        else:
            count.count_until_decided(2 * ablations.touched(stop_at))
    columns = {"tokens": count.tokens} | ({"patch_held": count.largest_patches()} if stop_at is None else {})
    return Votes(count.counts.to(images.device), stop_at is None, {name: value.to(images.device) for name, value in columns.items()})


class _VoteCount:
    """Counts the votes on N images. Ablations are evaluated in one order for all, so that a row depends on its own image alone.

    undecided: the images whose votes are still counted. tokens: how many tokens their views have had. cast: the vote of each ablation.
    """

    def __init__(self, model: MaskedModel, images: int, ablations: Ablations, label: str = "") -> None:
        self.model, self.ablations, self.order, self.label = model, ablations, ablations.order(), label
        self.undecided = torch.arange(images)
        self.counts = torch.zeros(images, 0, dtype=torch.int32)
        self.tokens = torch.zeros(images, dtype=torch.int32)
        self.cast = np.zeros((images, ablations.count), dtype=np.int32)

    def largest_patches(self) -> Tensor:
        """(N,) the largest patch that each prediction is certified against, place by place, once all votes are counted."""
        classes = self.counts.shape[1]
        return torch.tensor([self.ablations.largest_patch_by_place(votes, classes) for votes in self.cast], dtype=torch.int32)

    def count_all(self) -> None:
        """Counts every vote on every image."""
        self.count_range(0, self.ablations.count)

    def count_range(self, begin: int, stop: int) -> None:
        """Counts the votes of a range of ablations on the undecided images."""
        step, rows = max(1, _AT_ONCE // max(1, len(self.undecided))), self.undecided
        for start in range(begin, stop, step):
            votes, tokens = self.votes(start, min(start + step, stop))
            self.tokens[rows] += tokens.sum(dim=0, dtype=torch.int32)
            places = (rows * self.counts.shape[1] + votes).flatten()
            self.counts.view(-1).scatter_add_(0, places, torch.ones_like(places, dtype=torch.int32))
            self.cast[np.ix_(rows.numpy(), self.order[start : start + len(votes)])] = votes.T.numpy()

    def count_until_decided(self, gap: int) -> None:
        """Counts votes on each image until first − second > gap whatever the others are, or cannot be."""
        total = self.ablations.count
        # before so many votes nothing can be decided, unless no gap can be reached at all
        counted = min(total, max(1, min(total - gap, (total + gap) // 2 + 1)))
        self.count_range(0, counted)
        self.undecided = self.undecided[~_decided(self.counts, total - counted, gap)]
        while len(self.undecided):
            stop = min(counted + max(1, _ROUND // len(self.undecided)), total)
            self.count_round(counted, stop, gap)
            counted = stop

    def count_round(self, begin: int, stop: int, gap: int) -> None:
        """Counts, of a few votes, as many on each undecided image as decide it."""
        rows, left = self.undecided, self.ablations.count - torch.arange(begin + 1, stop + 1)[:, None]
        votes, tokens = self.votes(begin, stop)
        running = self.counts[rows] + functional.one_hot(votes, self.counts.shape[1]).int().cumsum(dim=0)
        decided = _decided(running, left, gap)
        last = torch.where(decided.any(dim=0), decided.int().argmax(dim=0), len(votes) - 1)
        each = torch.arange(len(rows))
        self.counts[rows] = running[last, each].int()
        self.tokens[rows] += tokens.cumsum(dim=0)[last, each].int()
        self.undecided = rows[~decided.any(dim=0)]

    def votes(self, begin: int, stop: int) -> tuple[Tensor, Tensor]:
        """The votes of a range of ablations and the tokens of their views, both (ablations, undecided images)."""
        window = self.ablations.window(self.order[begin:stop].repeat(len(self.undecided)))
        views = MaskedViews(self.undecided.repeat(stop - begin), window)
        logits = require_finite(self.model.logits(views), self.label, "ablated images")
        if self.counts.shape[1] == 0:
            self.counts = torch.zeros(len(self.counts), logits.shape[1], dtype=torch.int32)
        tokens = torch.from_numpy(self.model.token_counts(window)).int()
        return logits.argmax(dim=1).cpu().view(stop - begin, -1), tokens.view(stop - begin, -1)


def _decided(counts: Tensor, left: Tensor | int, gap: int) -> Tensor:
    """(…) bool of counts (…, K): whether the votes that are left cannot change whether first − second > gap."""
    first, second = functional.pad(counts, (0, 1)).topk(2, dim=-1).values.unbind(dim=-1)  # a model of one class has no second
    return (first - second - left > gap) | (first - second + left <= gap)


def ablation_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A prediction for every masked view, a fraction of a whole one where masked tokens are dropped; fewer where counting stops early."""
    ablations = Ablations.of_scenario(spec, model.size)
    assert ablations is not None
    masked = mask_model(model, torch.zeros(1, model.channels, *model.size, device=model.device), spec.get("unseen"))  # type: ignore[arg-type]
    whole = Window(*(np.ones((1, side), dtype=bool) for side in model.size))
    shares = masked.token_counts(ablations.window(np.arange(ablations.count))) / np.maximum(masked.token_counts(whole), 1)
    return Passes(forward=float(shares.sum()) or float(ablations.count), at_most=spec.get("stop_at") is not None)
