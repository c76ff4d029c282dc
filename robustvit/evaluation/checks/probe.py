"""One probe of a model on a few real images: a row alone, among others, and twice. It finds what blank images hide."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.evaluation.checks.outputs import Outputs, outputs_of
from robustvit.evaluation.images.batches import batch_of
from robustvit.evaluation.pipelines.costs import costs_of
from robustvit.evaluation.plan import Plan
from robustvit.evaluation.worker import Worker
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier, temporarily
from robustvit.primitives.draws import Draws

PROBED = 4  # images
_ROUNDING = 1e-3  # relative; how far logits may differ where sums are made in another order


def probe_models(plan: Plan, worker: Worker) -> None:
    """Probes every model of a plan, with each of its pipelines of transforms, on the first samples of its first data set.

    What transforms learn of other samples is learned now. What its outputs are is kept in `plan.outputs` by the model's label. Raises
    ModelError as `probe` does.
    """
    probed: set[tuple[Any, ...]] = set()
    for part, cell in plan.pairs:
        key = (part.label, cell.transforms, cell.seed if cell.learns else 0, cell.view.shown)
        ranks = np.arange(min(PROBED, part.samples.asked))
        if key in probed:
            continue
        probed.add(key)
        host = worker.try_host(part, cell)
        if host is None:
            continue
        images = worker.samples.images(part.samples, cell.view, ranks)
        found = probe(host, batch_of(part.samples.data, images, part.samples.positions[ranks], host.device))
        plan.outputs.setdefault(part.label, found)
        if (part.label, cell.transforms) not in plan.costs:
            worker.announce(f"{part.label} · costs")
            plan.costs[part.label, cell.transforms] = costs_of(host, latency=plan.settings.latency)


def probe(model: Classifier, batch: Batch, seed: int = 0) -> Outputs:
    """Probes a model on a batch of a few real samples, in float32, its randomness bound to their draws.

    Raises ModelError where a row depends on the rows beside it (batch statistics), or differs from one time to the next (randomness that is
    not keyed by `bound`).
    """
    draws = Draws(seed, "probe", batch.ids, model.device)
    first, second = (_logits(model, batch, draws, len(batch)) for _ in range(2))
    apart = _apart(first, second)
    if apart > _ROUNDING:
        raise ModelError(
            f"model '{model.card.label}' gives other logits for the same {len(batch)} images each time ({apart:.2g} apart, relative to the "
            "largest): something in it draws random numbers, so that no result of it is reproducible. Turn that off, or write a Classifier "
            "whose `bound(draws)` takes its randomness from the draws."
        )
    alone = torch.cat([_logits(model, batch[row], draws[row], 1) for row in torch.arange(len(batch))[:, None]])
    apart = _apart(first, alone)
    if apart > _ROUNDING:
        raise ModelError(
            f"model '{model.card.label}' gives other logits for an image alone than among others ({apart:.2g} apart, relative to the "
            "largest): something in it computes over the rows of a batch, such as batch statistics or the scale of dynamic quantisation, "
            "so that its numbers would depend on --batch-size. Let it use what was fixed in training (`eval()`, track_running_stats=True, "
            "static quantisation), or compute it for each row."
        )
    return outputs_of(first)


def _logits(model: Classifier, batch: Batch, draws: Draws, rows: int) -> Tensor:
    """The logits of a batch in forward passes of exactly so many rows."""
    bound = model.bound(draws)
    with torch.no_grad(), bound.in_float32(), temporarily(bound, "tile", lambda _: rows):
        logits: Tensor = bound(batch.images)
    return logits.double()


def _apart(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / (1.0 + first.abs().max()))
