"""Batches arrive as `pixels` makes them, and the next is on its way before one is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from robustvit.evaluation.images.batches import uploaded
from robustvit.primitives.pixels import pixels

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
CPU = torch.device("cpu")


class Sender:
    """Notes what is sent and awaited, by the first level of a batch."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, part: np.ndarray) -> Callable[[], Tensor]:
        name = f"{len([one for one in self.events if one.startswith('sent')])}"
        self.events.append(f"sent {name}")

        def arrive() -> Tensor:
            self.events.append(f"awaited {name}")
            return torch.from_numpy(part.copy())

        return arrive


@pytest.mark.parametrize("rows", [1, 3, 7, 8])
@pytest.mark.parametrize("by_hand", [False, True])
def test_batches_are_those_of_pixels(rows: int, by_hand: bool) -> None:
    found = list(uploaded(IMAGES, rows, CPU, Sender() if by_hand else None))
    assert [len(one) for one in found] == [len(IMAGES[start : start + rows]) for start in range(0, 7, rows)]
    assert torch.equal(torch.cat(found), pixels(IMAGES))
    assert all(one.is_contiguous() for one in found)


def test_the_next_batch_is_sent_before_one_is_given_and_none_further() -> None:
    sender = Sender()
    for number, _ in enumerate(uploaded(IMAGES, 3, CPU, sender)):
        sender.events.append(f"used {number}")
    assert sender.events == [
        "sent 0", "sent 1", "awaited 0", "used 0", "sent 2", "awaited 1", "used 1", "awaited 2", "used 2",
    ]  # fmt: skip


def test_no_images_are_no_batches() -> None:
    assert list(uploaded(IMAGES[:0], 3, CPU)) == list(uploaded(IMAGES[:0], 3, CPU, Sender())) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pixels_on_cuda_are_those_of_the_cpu() -> None:
    found = torch.cat([one.cpu() for one in uploaded(IMAGES, 2, torch.device("cuda"))])
    assert torch.equal(found, pixels(IMAGES))
