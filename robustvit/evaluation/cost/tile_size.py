"""How many rows of a forward pass are fastest, and fewer where memory runs out."""

from __future__ import annotations

import logging
import time

import torch

from robustvit.primitives.classifier import Classifier

log = logging.getLogger(__name__)
_LEAST, _MOST = 8, 1024  # rows that are tried
_FASTER = 1.05  # by which twice the rows have to be faster
_PATIENCE = 2.0  # seconds after which no larger tile is tried on a CPU, where they gain little
_CANNOT_ALLOCATE = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def fastest_tile(model: Classifier) -> int:
    """The rows of a forward and backward pass at which an image takes least time: doubled while that gains 5 % and fits into memory."""
    best, least = _LEAST, float("inf")
    began, rows = time.perf_counter(), _LEAST
    while rows <= _MOST and (model.device.type != "cpu" or time.perf_counter() - began < _PATIENCE):
        try:
            seconds = _seconds_per_row(model, rows)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or rows == _LEAST:
                raise
            break
        if seconds * _FASTER > least:
            break
        best, least, rows = rows, seconds, 2 * rows
    return best


def out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _CANNOT_ALLOCATE)
    )


def halve_tiles(*models: Classifier) -> bool:
    """Halves the rows of a forward pass of models and what they wrap; False where the first has one row already."""
    found = dict.fromkeys(one for model in models for one in model.modules() if isinstance(one, Classifier))
    if models[0].tile == 1:
        return False
    for one in found:
        one.configure(tile=max(1, one.tile // 2))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    log.warning("memory ran out on %s: a forward pass has %d rows now.", models[0].card.label, models[0].tile)
    return True


def _seconds_per_row(model: Classifier, rows: int) -> float:
    """The faster of two passes, the first of which pays for starting up."""
    images = torch.rand(rows, model.channels, *model.size, generator=torch.Generator().manual_seed(0)).to(model.device)
    before, times = model.tile, []
    model.configure(tile=rows)
    try:
        for _ in range(2):
            began = time.perf_counter()
            leaf = images.clone().requires_grad_(True)
            logits = model(leaf)
            if logits.requires_grad:
                logits.sum().backward()
            float(logits.detach()[0, 0])
            times.append(time.perf_counter() - began)
    finally:
        model.configure(tile=before)
    return min(times) / rows
