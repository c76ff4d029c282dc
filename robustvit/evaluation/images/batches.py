"""Batches of images on their way to the device: the next is copied there while one is computed with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from robustvit.primitives.batch import Batch, Data
from robustvit.primitives.pixels import of_levels, pixels

Arrival = Callable[[], Tensor]
Sender = Callable[[np.ndarray], Arrival]


def batches(data: Data, images: np.ndarray, positions: np.ndarray, rows: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
    """The first row and the Batch of every `rows` images, the arguments as for `batch_of`."""
    for start, here in zip(range(0, len(positions), rows), uploaded(images, rows, device), strict=True):
        yield start, _batch(data, here, positions[start : start + rows])


def batch_of(data: Data, images: np.ndarray, positions: np.ndarray, device: torch.device) -> Batch:
    """The Batch of (n, H, W, 3) uint8 images, those of the data's samples at these positions."""
    return _batch(data, pixels(images, device), positions)


def _batch(data: Data, images: Tensor, positions: np.ndarray) -> Batch:
    labels = torch.from_numpy(np.asarray(data.labels)[positions].astype(np.int64)).to(images.device)
    return Batch(images, labels, tuple(data.ids[i] for i in positions))


def uploaded(images: np.ndarray, rows: int, device: torch.device, sender: Sender | None = None) -> Iterator[Tensor]:
    """uint8 images (n, H, W, C) as float32 (up to `rows`, C, H, W) in [0, 1] on a device, one batch after the other.

    On CUDA the copy of the next batch is begun before one is given, from pinned memory and on a stream of its own, so that at most two are
    on the way. The pixels are those of `pixels`. sender: begins to copy a batch; returns what waits for its levels, (n, H, W, C) uint8.
    """
    parts = (images[start : start + rows] for start in range(0, len(images), rows))
    if sender is None and device.type != "cuda":
        yield from (pixels(part, device) for part in parts)
        return
    send = sender or _cuda_sender(device)
    coming: Arrival | None = None
    for arrival in itertools.chain(map(send, parts), (None,)):  # the one after is sent before this one is given
        if coming is not None:
            yield of_levels(coming().permute(0, 3, 1, 2).contiguous())
        coming = arrival


def _cuda_sender(device: torch.device) -> Sender:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(part: np.ndarray) -> Arrival:
        pinned = torch.from_numpy(np.array(part, order="C")).pin_memory()  # its allocator keeps it until the copy is over
        with torch.cuda.stream(stream):
            there = pinned.to(device, non_blocking=True)
        copied = stream.record_event()

        def arrive() -> Tensor:
            own = torch.cuda.current_stream(device)
            own.wait_event(copied)
            there.record_stream(own)
            return there

        return arrive

    return send
