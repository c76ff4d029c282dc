"""Which forward mode is fastest for a model on this machine, found by a probe on real images."""

from __future__ import annotations

import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from robustvit.evaluation.images.batches import batch_of
from robustvit.evaluation.plan import Plan
from robustvit.evaluation.scenario_of_cell import in_forward_mode
from robustvit.evaluation.tasks import CELL_FAULTS, Task
from robustvit.evaluation.worker import Worker
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.forward_modes import COMPILED, CUDA_GRAPH, EAGER, STEPS, ForwardMode

log = logging.getLogger(__name__)

_PROBED = 64  # images
_FASTER = 1.05  # by which a step has to be faster
_TURNS = 5  # passes of each mode, of which the median counts; they alternate
_COMPILING = 60.0  # seconds that compiling a model takes, about
_FAULTS = (*CELL_FAULTS, OSError, ImportError, AssertionError)  # that a compiler may raise
_ROUNDING = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 5e-2}  # how far logits may differ, relative to the largest


def fastest_forward(model: Classifier, images: Tensor, passes: float, clock: Callable[[], float] = time.perf_counter) -> ForwardMode:
    """The fastest forward mode of a model: the steps of `ForwardMode`, one after the other, that gain 5 % and change no prediction.

    images: real ones, (n, C, H, W) in [0, 1]; a tile is filled with them. passes: of a tile that are to come; compiling is tried where they
    would take ten times as long as it. A step that raises, as compiling does without a compiler, is left out, which is logged.
    """
    tile = images.repeat(-(-model.tile // len(images)), 1, 1, 1)[: model.tile]
    try:
        best, seconds = EAGER, _seconds(model, tile, [EAGER], clock)[0]
        expected = _logits(model, tile, EAGER)
    except _FAULTS:  # what is wrong is told, or mended by smaller tiles, where a cell is computed
        return EAGER
    for step in _steps(model.device):
        if step == COMPILED and passes * seconds < 10 * _COMPILING:
            continue
        tried = ForwardMode((*best.steps, step))
        try:
            reason = _differs(expected, _logits(model, tile, tried), _ROUNDING[model.precision])
            if reason:
                log.info("%s: %s is left out: %s.", model.card.label, step, reason)
                continue
            before, after = _seconds(model, tile, [best, tried], clock)
        except _FAULTS as error:  # without the step all is as before
            log.info("%s: %s is left out: %s: %s", model.card.label, step, type(error).__name__, " ".join(str(error).split())[:300])
            continue
        if before >= _FASTER * after:
            best, seconds = tried, after
    return best


def set_forward_modes(plan: Plan, worker: Worker, tasks: Sequence[Task]) -> None:
    """Gives each model of some tasks the mode that is fastest on this machine, and logs it where that is not eager."""
    rows: Counter[str] = Counter()
    for task in tasks:
        rows[task.model] += (task.stop - task.begin) * in_forward_mode(task.cell)
    seen: set[int] = set()
    for part in plan.planned:
        cells = [cell for cell in part.cells if in_forward_mode(cell)]
        model = part.model
        if model is None or not cells or not rows[part.label] or id(model) in seen:
            continue
        seen.add(id(model))
        worker.announce(f"{part.label} · forward modes")
        ranks = np.arange(min(_PROBED, part.samples.asked))
        images = worker.samples.images(part.samples, cells[0].view, ranks)
        batch = batch_of(part.samples.data, images, part.samples.positions[ranks], model.device)
        model.forward_mode = fastest_forward(model, batch.images, rows[part.label] / model.tile)
        if model.forward_mode.name:
            log.info("%s: forward passes are %s.", part.label, model.forward_mode.name)


def _steps(device: torch.device) -> list[str]:
    return [step for step in STEPS if step != CUDA_GRAPH or device.type == "cuda"]


def _logits(model: Classifier, images: Tensor, mode: ForwardMode) -> Tensor:
    before, model.forward_mode = model.forward_mode, mode
    try:
        with torch.no_grad(), model.in_forward_mode():
            found: Tensor = model(images)
    finally:
        model.forward_mode = before
    return found


def _seconds(model: Classifier, images: Tensor, modes: list[ForwardMode], clock: Callable[[], float]) -> list[float]:
    """Of each mode the median seconds of a pass, with the device's queue empty at both ends, after one that warms up."""
    times: list[list[float]] = [[] for _ in modes]
    for turn in range(_TURNS + 1):
        for mode, found in zip(modes, times, strict=True):
            began = clock()
            float(_logits(model, images, mode)[0, 0])
            if turn:
                found.append(clock() - began)
    return [statistics.median(found) for found in times]


def _differs(expected: Tensor, found: Tensor, rounding: float) -> str:
    """Why the logits of a mode are not those of eager passes; "" where every prediction is the same and they differ by rounding alone."""
    apart = float((expected - found).abs().max() / (1.0 + expected.abs().max()))
    changed = int((expected.argmax(dim=1) != found.argmax(dim=1)).sum())
    if changed:
        return f"it changes {changed} of {len(expected)} predictions"
    return "" if apart <= rounding else f"logits differ by {apart:.2g}, relative to the largest"
