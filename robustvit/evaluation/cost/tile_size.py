"""How many rows of a forward pass are fastest, and what tells that memory ran out."""

from __future__ import annotations

import time

import torch

from robustvit.primitives.classifier import Classifier

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
    """Whether a device had too little memory, or an error was raised because of one that says so."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _CANNOT_ALLOCATE):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)


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
