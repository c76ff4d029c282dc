"""Adversarial patches: small squares of an image replaced by any pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from robustvit.attacks.losses import log_odds, untargeted
from robustvit.errors import BadParameter
from robustvit.primitives.attack_search import Crafted, Evaluation, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference import attention_maps
from robustvit.primitives.limits import Count, Radius, Whole
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.patches import CITATION, best_places, paste, patch_mask, patch_places, random_places, refuse_too_many
from robustvit.spec.registry import attack
from robustvit.spec.spec import Spec

Position = Literal["random", "saliency", "attention", "worst", "every"]
_WAVE = 8  # places of an image that are attacked side by side in the search for the worst
_NEVER = torch.iinfo(torch.int64).max


@attack(
    severity="patches", budget="number of patches", family="patch",
    source="Gu, Tresp and Qin 2022, Are Vision Transformers Robust to Patch Perturbations? (ECCV), adversarial patch attack",
    url="https://github.com/JindongGu/ViT_Patch_Robustness", licence="MIT (reference code; none of it is used)", citation=CITATION,
    tells=("value_patch_row", "value_patch_column", "value_fooled_share"),
    rules="The pixels under a patch may take any value; no other pixel changes. Only images that are right when clean are attacked.",
    passes="patch_passes",
)  # fmt: skip
def adversarial_patch(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws,
    *, size: Count = 16, patches: Count = 1, offset: Whole | None = 0, position: Position = "random",
    step: Radius = 2 / 255, steps: Count = 10_000,
) -> Crafted:  # fmt: skip
    """Adversarial patches (Gu et al. 2022): signed gradient ascent on the cross-entropy in the pixels of the patches, from uniform noise.

    patches: how many. size: their side in pixels. offset: 0 for cells of the grid that starts in the upper left corner (the token grid,
    where `size` is a multiple of a token), another number to shift the grid by so many pixels, null for any pixel. position: `random`,
    drawn for each image; `saliency`, where the summed gradient magnitude of the clean image is largest; `attention`, where the model
    attends most (rollout over all blocks); `worst`, all cells, the most salient first and eight at a time: an image is misclassified if a
    patch in any cell fools the model; `every`, a patch in every cell, each on its own. The last two take one patch on a grid. step: step
    size of each pixel, in pixel units. steps: the largest number of queries of a patch; each iterate is queried before its step, and a
    patch stops when it has fooled the model, so the last query takes no step. `every` keeps the patch that took the fewest queries, the
    first of equals, and `steps` is that number. The position by saliency or attention costs a query. value_patch_row, value_patch_column:
    the upper left pixel of the first patch. value_fooled_share: with `every`, the share of cells that fooled.

    Differs from the paper: the gradient is that of the log odds against the label, which has the sign of the cross-entropy's and does not
    vanish where that rounds to zero; the attack is on the label, not on the model's clean prediction; and an image, not a batch, owns its
    random numbers.
    """
    height, width = images.shape[2:]
    _refuse(position, patches, offset)
    refuse_too_many(patches, height, width, size, offset, "attack 'adversarial_patch'")
    search, best = Search(model, images, labels, draws), _Best.of(images)
    settings = _Settings(size, step, steps, draws.at("start").uniform(model.channels, height, width).to(images))
    cells = patch_places(height, width, size, offset).to(images.device)
    if position == "every":
        return _attack_every(search, settings, cells, best)
    if position == "worst":
        _attack_worst(search, settings, best_places(_saliency(search), len(cells), size, offset), best)
    else:
        at = _places_at(search, position, draws.at("places"), patches, size, offset)
        _run_jobs(search, settings, _Jobs(search.active, at, 1), best)
    return _crafted(search, best)


class _Settings(NamedTuple):
    """How patches are optimised: their size, step size, number of queries, and the noise (N, 3, H, W) that gives their first pixels."""

    size: int
    step: float
    steps: int
    noise: Tensor


class _Jobs(NamedTuple):
    """Patches to optimise: their samples, (J,), and their places, (J, count, 2).

    each: so many consecutive jobs belong to one sample and run in step. apart: whether they go on after one of them has fooled the model.
    """

    rows: Tensor
    at: Tensor
    each: int
    apart: bool = False


@dataclass
class _Best:
    """The best result of each sample: its image, the place of its first patch, and the fewest queries with which a job fooled the model."""

    images: Tensor
    at: Tensor
    queries: Tensor

    @classmethod
    def of(cls, images: Tensor) -> _Best:
        """The clean images, with no patch yet."""
        nowhere = torch.full((len(images), 2), -1, dtype=torch.int64, device=images.device)
        return cls(images.clone(), nowhere, torch.full((len(images),), _NEVER, device=images.device))

    def update(self, row: int, pixels: Tensor, at: Tensor, queries: int = _NEVER) -> None:
        """Keeps the image of a job if it is the sample's first or took fewer queries. queries: of the job, where it fooled the model."""
        if queries < int(self.queries[row]) or int(self.at[row, 0]) < 0:
            self.images[row], self.at[row], self.queries[row] = pixels, at, queries


def _refuse(position: str, count: int, offset: int | None) -> None:
    if position in ("worst", "every") and (count != 1 or offset is None):
        raise BadParameter(
            f"attack 'adversarial_patch': position {position} tries one patch in every cell of a grid; it takes patches: 1 and a number "
            f"for offset, but got patches: {count}, offset: {'null' if offset is None else offset}."
        )


def _places_at(search: Search, position: str, draws: Draws, count: int, size: int, offset: int | None) -> Tensor:
    """The places of the patches of each sample at a position, (N, count, 2)."""
    if position == "saliency":
        return best_places(_saliency(search), count, size, offset)
    height, width = search.images.shape[2:]
    if position == "attention":
        search.queries += 1
        received = attention_maps.received_attention(search.model_of(torch.arange(len(search.images))), search.images, None)
        return best_places(interpolate(received[:, None], (height, width), mode="nearest")[:, 0], count, size, offset)
    return random_places(draws, count, height, width, size, offset).to(search.images.device)


def _evaluate(search: Search, rows: Tensor, pixels: Tensor, candidates: bool = True) -> Evaluation:
    return search.query_gradient(rows, pixels, untargeted(log_odds, search.labels), candidates=candidates)


def _saliency(search: Search) -> Tensor:
    """The gradient magnitude of the clean images, summed over channels, (N, H, W). Costs a query and a gradient."""
    rows = torch.arange(len(search.images), device=search.images.device)
    parts = [_evaluate(search, part, search.images[part], candidates=False).gradient for part in torch.split(rows, search.model.tile)]
    return torch.cat(parts).abs().sum(dim=1)


def _attack_worst(search: Search, settings: _Settings, at: Tensor, best: _Best) -> None:
    """Attacks the samples that are still robust at the places (N, P, 2), `_WAVE` places at a time."""
    for start in range(0, at.shape[1], _WAVE):
        rows, wave = search.active, at[:, start : start + _WAVE]
        each = wave.shape[1]
        _run_jobs(search, settings, _Jobs(rows.repeat_interleave(each), wave[rows].reshape(-1, 1, 2), each), best)


def _attack_every(search: Search, settings: _Settings, at: Tensor, best: _Best) -> Crafted:
    """Attacks every sample at each of the places (P, 2), each on its own."""
    n, each = len(search.images), len(at)
    rows = torch.arange(n, device=at.device).repeat_interleave(each)
    fooled = _run_jobs(search, settings, _Jobs(rows, at.repeat(n, 1)[:, None], 1, apart=True), best)
    crafted = _crafted(search, best)
    crafted.columns["steps"] = torch.where(best.queries == _NEVER, -1, best.queries).to(crafted.columns["steps"])
    crafted.columns["value_fooled_share"] = fooled.view(n, each).float().mean(dim=1)
    return crafted


def _run_jobs(search: Search, settings: _Settings, jobs: _Jobs, best: _Best) -> Tensor:
    """Runs all jobs, as many at once as fill a tile of the model; returns whether each fooled it, (J,) bool.

    A finished job makes room for the next; the result of one does not depend on the others that run beside it.
    """
    fooled = torch.zeros_like(jobs.rows, dtype=torch.bool)
    running, waiting = _Running.none(search.images), 0
    while True:
        free = max(search.model.tile, jobs.each) - len(running.jobs)
        fresh = torch.arange(waiting, min(waiting + free // jobs.each * jobs.each, len(jobs.rows)), device=fooled.device)
        waiting += len(fresh)
        if len(fresh):
            running = running.joined(_started(search, settings, jobs, fresh))
        if not len(running.jobs):
            return fooled
        rows = jobs.rows[running.jobs]
        logits, _, gradient = _evaluate(search, rows, running.pixels)
        wrong = search.fooled(rows, running.pixels, logits)
        fooled[running.jobs] = wrong
        running = running._replace(queries=running.queries + 1)
        finished = wrong | (running.queries >= settings.steps) | (False if jobs.apart else ~search.is_active(rows))
        _keep_finished(running, jobs, finished, wrong, best)
        running = running._replace(pixels=_stepped(running, gradient, settings.step)).kept(~finished)


class _Running(NamedTuple):
    """Jobs in progress: their indices, (n,), images, masks of their patches, and the queries made so far."""

    jobs: Tensor
    pixels: Tensor
    covered: Tensor
    queries: Tensor

    @classmethod
    def none(cls, images: Tensor) -> _Running:
        """No job."""
        empty = torch.zeros(0, dtype=torch.int64, device=images.device)
        return cls(empty, images[:0], images[:0, :1].bool(), empty)

    def joined(self, others: _Running) -> _Running:
        """These jobs followed by the others."""
        return _Running(*(torch.cat(pair) for pair in zip(self, others, strict=True)))

    def kept(self, which: Tensor) -> _Running:
        """The jobs selected by a boolean mask."""
        return self if bool(which.all()) else _Running(*(one[which] for one in self))


def _started(search: Search, settings: _Settings, jobs: _Jobs, which: Tensor) -> _Running:
    rows = jobs.rows[which]
    height, width = search.images.shape[2:]
    covered = patch_mask(jobs.at[which], settings.size, height, width)
    return _Running(which, paste(search.images[rows], settings.noise[rows], covered), covered, torch.zeros_like(which))


def _keep_finished(running: _Running, jobs: _Jobs, finished: Tensor, wrong: Tensor, best: _Best) -> None:
    """Updates the best results with those of the finished jobs."""
    for i in finished.nonzero().flatten().tolist():
        job, queries = int(running.jobs[i]), int(running.queries[i]) if bool(wrong[i]) else _NEVER
        best.update(int(jobs.rows[job]), running.pixels[i], jobs.at[job, 0], queries)


def _stepped(running: _Running, gradient: Tensor, step: float) -> Tensor:
    """The images after one step of the patches, clipped to [0, 1]; other pixels keep their bits."""
    return torch.where(running.covered, (running.pixels + step * gradient.sign()).clamp_(0.0, 1.0), running.pixels)


def _crafted(search: Search, best: _Best) -> Crafted:
    at = best.at.float()
    columns = {**search.outcome().columns, "value_patch_row": at[:, 0], "value_patch_column": at[:, 1]}
    return Crafted(best.images, columns, best.queries < _NEVER)


def patch_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """A run for every place that is tried: one, but for positions that try all of a grid."""
    size, offset, tried = spec.get("size"), spec.get("offset"), 1
    if spec.get("position") in ("worst", "every") and isinstance(size, int) and isinstance(offset, int):
        tried = len(patch_places(*model.size, size, offset))
    return Passes(gradients=tried * product_of(spec, "steps"))
