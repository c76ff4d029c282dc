"""Files of adversarial images beside the Records of an attack."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy


@dataclass(frozen=True)
class ImageFile:
    """The images that an attack left of the rows of one Records file: `rows` names those it was run on.

    adversarial: (m, 3, H, W) float32 in [0, 1]; clean: (m, H, W, 3) uint8; m rows.
    """

    path: Path

    @property
    def earlier(self) -> str:
        """The cell of the attack before it in a chain, which keeps the images of the other rows; "" where there is none."""
        with self._opened() as file:
            return str(json.loads(file.metadata()["about"])["earlier"])

    def rows(self) -> list[int]:
        """The rows of the Records file that it has images of, in its own order."""
        with self._opened() as file:
            return [int(row) for row in file.get_tensor("rows")]

    def read(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The adversarial and the clean images at some places of its own order."""
        with self._opened() as file:
            slices = [file.get_slice(name) for name in ("adversarial", "clean")]
            adversarial, clean = (np.concatenate([one[place : place + 1] for place in places]) for one in slices)
        return adversarial, clean

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with safetensors.safe_open(self.path, framework="np") as file:
            yield file


def encoded(arrays: dict[str, np.ndarray], about: dict[str, str]) -> bytes:
    """The content of such a file. about: `cell`, and `earlier`; one entry of metadata, because several have no order."""
    return safetensors.numpy.save(arrays, metadata={"about": json.dumps(about, sort_keys=True)})
