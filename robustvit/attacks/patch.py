"""Adversarial patches: small squares that may hold anything, in the place of what was there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import interpolate

from robustvit.attacks.losses import log_odds
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted, Search, Seen
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference import attention_maps
from robustvit.primitives.patches import CITATION, best, draw, mask, paste, places, refuse_too_many
from robustvit.spec.registry import attack

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Radius = Annotated[float, Gt(0)]
Position = Literal["random", "saliency", "attention", "worst", "every"]
_WAVE = 8  # places of a picture that are tried side by side where the worst is looked for
_NEVER = torch.iinfo(torch.int64).max


@attack(
    severity="patches", family="patch", source="Gu, Tresp and Qin 2022, Are Vision Transformers Robust to Patch Perturbations? (ECCV), adversarial patch attack",
    url="https://github.com/JindongGu/ViT_Patch_Robustness", licence="MIT (reference code; none of it is used)", citation=CITATION,
    tells=("value_patch_row", "value_patch_column", "value_fooled_share"),
    rules="What a patch covers is replaced by any pixels; no other pixel changes. Only pictures that are right when clean are attacked.",
)  # fmt: skip
def adversarial_patch(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, size: Count = 16, patches: Count = 1, offset: Whole | None = 0, position: Position = "random", step: Radius = 2 / 255, steps: Count = 10_000,
) -> Crafted:  # fmt: skip
    """Patches of any content that raise the cross-entropy: ascent by the gradient's sign from uniform noise.

    The gradient is that of the log odds against the label, whose sign is the cross-entropy's and which stays where that rounds to zero.
    patches: how many. size: their side in pixels. offset: 0 for cells of the grid that begins in the upper left corner (the token grid, where `size`
    is a multiple of a token), 8 to move it by so many pixels, null for any pixel. position: `random`, drawn for each picture; `saliency`, where the
    gradient of the clean picture is largest in sum; `attention`, where the model attends most to it (rollout over all blocks); `worst`, a picture
    falls if it falls to a patch in any cell, the most salient tried first, eight at a time; `every`, a patch in every cell, each for itself. The last
    two take one patch on a grid. step: of each pixel, in pixel units. steps: queries of each patch, at most; each is judged before it takes its step,
    and stops when it has fooled the model. The last of them takes no step, since nobody would look. `every` keeps the patch that took the fewest
    queries, the first of equals, and `steps` is its number. Looking for the place by saliency or attention costs a query.
    value_patch_row, value_patch_column: the upper left pixel of the first patch. value_fooled_share: with `every`, the share of cells that fooled.
    """
    height, width = images.shape[2:]
    _refuse(position, patches, offset)
    refuse_too_many(patches, height, width, size, offset, "attack 'adversarial_patch'")
    search, found = Search(model, images, labels, draws), _Best.of(images)
    way = _Way(size, step, steps, draws.at("start").uniform(3, height, width).to(images))
    cells = places(height, width, size, offset).to(images.device)
    if position == "every":
        return _everywhere(search, way, cells, found)
    if position == "worst":
        _worst(search, way, best(_saliency(search), len(cells), size, offset), found)
    else:
        at = _chosen(search, position, draws.at("places"), patches, size, offset)
        _follow(search, way, _Jobs(search.standing, at, 1), found)
    return _told(search, found)


class _Way(NamedTuple):
    """How patches are made: their size, step and number of queries, and the noise (N, 3, H, W) that they are cut out of to begin with."""

    size: int
    step: float
    steps: int
    noise: Tensor


class _Jobs(NamedTuple):
    """What is to be made: the samples, (J,), and the places of their patches, (J, count, 2).

    each: so many jobs that follow each other are of one sample and go in step. apart: whether they go on when one of them has made it fall.
    """

    rows: Tensor
    at: Tensor
    each: int
    apart: bool = False


@dataclass
class _Best:
    """What is left of each sample: its image, the place of its first patch, and the queries of the job that made it; of those that fell, the fewest."""

    images: Tensor
    at: Tensor
    queries: Tensor

    @classmethod
    def of(cls, images: Tensor) -> _Best:
        """Nothing found yet."""
        nowhere = torch.full((len(images), 2), -1, dtype=torch.int64, device=images.device)
        return cls(images.clone(), nowhere, torch.full((len(images),), _NEVER, device=images.device))

    def leave(self, row: int, pixels: Tensor, at: Tensor, queries: int = _NEVER) -> None:
        """Takes note of an image. queries: of the job, where it fooled the model."""
        if queries < int(self.queries[row]) or int(self.at[row, 0]) < 0:
            self.images[row], self.at[row], self.queries[row] = pixels, at, queries


def _refuse(position: str, count: int, offset: int | None) -> None:
    if position in ("worst", "every") and (count != 1 or offset is None):
        raise BadParameter(
            f"attack 'adversarial_patch': position {position} tries one patch in every cell of a grid; it takes patches: 1 and a number for "
            f"offset, and got patches: {count}, offset: {'null' if offset is None else offset}."
        )


def _chosen(search: Search, position: str, draws: Draws, count: int, size: int, offset: int | None) -> Tensor:
    """Places of the patches of each sample, (N, count, 2)."""
    if position == "saliency":
        return best(_saliency(search), count, size, offset)
    height, width = search.images.shape[2:]
    if position == "attention":
        search.queries += 1
        received = attention_maps.received_attention(search.model, search.images, None)
        return best(interpolate(received[:, None], (height, width), mode="nearest")[:, 0], count, size, offset)
    return draw(draws, count, height, width, size, offset).to(search.images.device)


def _climb(search: Search, rows: Tensor, pixels: Tensor, candidates: bool = True) -> Seen:
    return search.climb(rows, pixels, lambda logits, rows: log_odds(logits, search.labels[rows]), candidates=candidates)


def _saliency(search: Search) -> Tensor:
    """(N, H, W) the magnitude of the clean pictures' gradient, over the channels. Costs a query and a gradient."""
    rows = torch.arange(len(search.images), device=search.images.device)
    parts = [_climb(search, part, search.images[part], candidates=False).gradient for part in torch.split(rows, search.model.tile)]
    return torch.cat(parts).abs().sum(dim=1)


def _worst(search: Search, way: _Way, at: Tensor, found: _Best) -> None:
    """Wave after wave of places (N, P, 2) for the samples that stand."""
    for start in range(0, at.shape[1], _WAVE):
        rows, wave = search.standing, at[:, start : start + _WAVE]
        each = wave.shape[1]
        _follow(search, way, _Jobs(rows.repeat_interleave(each), wave[rows].reshape(-1, 1, 2), each), found)


def _everywhere(search: Search, way: _Way, at: Tensor, found: _Best) -> Crafted:
    """A patch in each of the places (P, 2), each for itself."""
    n, each = len(search.images), len(at)
    rows = torch.arange(n, device=at.device).repeat_interleave(each)
    fell = _follow(search, way, _Jobs(rows, at.repeat(n, 1)[:, None], 1, apart=True), found)
    told = _told(search, found)
    told.columns["steps"] = torch.where(found.queries == _NEVER, -1, found.queries).to(told.columns["steps"])
    return Crafted(told.images, {**told.columns, "value_fooled_share": fell.view(n, each).float().mean(dim=1)})


def _follow(search: Search, way: _Way, jobs: _Jobs, found: _Best) -> Tensor:
    """Does all jobs, as many at once as fill a tile of the model; whether each fooled it, (J,) bool.

    A job that is done makes room for the next; what becomes of one does not depend on who else is there.
    """
    fell = torch.zeros_like(jobs.rows, dtype=torch.bool)
    running, waiting = _Running.none(search.images), 0
    while True:
        free = max(search.model.tile, jobs.each) - len(running.jobs)
        fresh = torch.arange(waiting, min(waiting + free // jobs.each * jobs.each, len(jobs.rows)), device=fell.device)
        waiting += len(fresh)
        if len(fresh):
            running = running.joined(_begun(search, way, jobs, fresh))
        if not len(running.jobs):
            return fell
        rows = jobs.rows[running.jobs]
        seen = _climb(search, rows, running.pixels)
        wrong = search.fooled(rows, running.pixels, seen.logits)
        fell[running.jobs] = wrong
        running = running._replace(queries=running.queries + 1)
        over = wrong | (running.queries >= way.steps) | (False if jobs.apart else ~search.stand(rows))
        _note(running, jobs, over, wrong, found)
        running = running._replace(pixels=_stepped(running, seen.gradient, way.step)).kept(~over)


class _Running(NamedTuple):
    """Jobs under way: which, (n,), their images, what their patches cover, and the queries they have made."""

    jobs: Tensor
    pixels: Tensor
    covered: Tensor
    queries: Tensor

    @classmethod
    def none(cls, images: Tensor) -> _Running:
        """No job."""
        nobody = torch.zeros(0, dtype=torch.int64, device=images.device)
        return cls(nobody, images[:0], images[:0, :1].bool(), nobody)

    def joined(self, others: _Running) -> _Running:
        """These jobs, then the others."""
        return _Running(*(torch.cat(pair) for pair in zip(self, others, strict=True)))

    def kept(self, which: Tensor) -> _Running:
        """Those of a boolean mask."""
        return self if bool(which.all()) else _Running(*(one[which] for one in self))


def _begun(search: Search, way: _Way, jobs: _Jobs, which: Tensor) -> _Running:
    rows = jobs.rows[which]
    height, width = search.images.shape[2:]
    covered = mask(jobs.at[which], way.size, height, width)
    return _Running(which, paste(search.images[rows], way.noise[rows], covered), covered, torch.zeros_like(which))


def _note(running: _Running, jobs: _Jobs, over: Tensor, wrong: Tensor, found: _Best) -> None:
    """Keeps what the jobs that are over leave."""
    for place in over.nonzero().flatten().tolist():
        job, fell = int(running.jobs[place]), bool(wrong[place])
        found.leave(int(jobs.rows[job]), running.pixels[place], jobs.at[job, 0], int(running.queries[place]) if fell else _NEVER)


def _stepped(running: _Running, gradient: Tensor, step: float) -> Tensor:
    """One step of the patches, cut to [0, 1]; other pixels keep their bits."""
    return torch.where(running.covered, (running.pixels + step * gradient.sign()).clamp_(0.0, 1.0), running.pixels)


def _told(search: Search, found: _Best) -> Crafted:
    where = found.at.float()
    return Crafted(found.images, {**search.outcome().columns, "value_patch_row": where[:, 0], "value_patch_column": where[:, 1]})
