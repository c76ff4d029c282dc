"""Predictions of a teacher, kept in a file so that it need not be run again: the most probable classes of each image and epoch."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustvit.errors import BadParameter

_TABLES = (
    "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE IF NOT EXISTS predictions "
    "(epoch INTEGER, id TEXT, image BLOB, classes BLOB, probabilities BLOB, PRIMARY KEY (epoch, id))",
)


class KeptPredictions:
    """A file (SQLite) of the top classes and their probabilities, for each image by epoch and id.

    about: what they depend on, by name, such as the teacher's fingerprint. With each a digest of the image as it was shown is kept, so that
    predictions of another augmentation are noticed. Raises BadParameter for a file of others, or that cannot be read or written.
    """

    def __init__(self, path: str, about: Mapping[str, str]) -> None:
        self.path = Path(path).expanduser()
        try:
            self._file = sqlite3.connect(self.path, timeout=60.0)
            for table in _TABLES:
                self._file.execute(table)
            kept = dict(self._file.execute("SELECT name, value FROM about"))
            self._file.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", list(about.items()))
            self._file.commit()
        except sqlite3.Error as error:
            raise BadParameter(f"the predictions in {self.path} cannot be read or written: {error}.") from error
        for name, value in about.items():
            if kept and kept.get(name) != value:
                raise BadParameter(f"{self.path} holds predictions whose {name} is {kept.get(name)}, not {value}; name another file.")

    def of(self, epoch: int, ids: tuple[str, ...], images: Tensor) -> tuple[Tensor, Tensor] | None:
        """The top classes (N, k) int64 and their probabilities (N, k) float32 of images (N, C, H, W); None where one is not there.

        Raises BadParameter where an image differs from that which the teacher saw.
        """
        found = []
        for name, image in zip(ids, images, strict=True):
            row = self._file.execute(
                "SELECT image, classes, probabilities FROM predictions WHERE epoch = ? AND id = ?", (epoch, name)
            ).fetchone()
            if row is None:
                return None
            if row[0] != _digest(image):
                raise BadParameter(
                    f"{self.path} holds predictions of other images: '{name}' looks otherwise in epoch {epoch + 1}. Seed, batch size, "
                    "augmentation and data must be those of the run that wrote it; name another file."
                )
            found.append(row[1:])
        classes, probabilities = (
            np.stack([np.frombuffer(row[at], dtype) for row in found]) for at, dtype in ((0, np.int32), (1, np.float32))
        )
        return torch.from_numpy(classes).long().to(images.device), torch.from_numpy(probabilities).to(images.device)

    def add(self, epoch: int, ids: tuple[str, ...], images: Tensor, classes: Tensor, probabilities: Tensor) -> None:
        """Keeps what a teacher predicted, as `of` gives it back."""
        columns = (classes.cpu().numpy().astype(np.int32), probabilities.cpu().numpy().astype(np.float32))
        rows = [
            (epoch, name, _digest(image), *(of[at].tobytes() for of in columns))
            for at, (name, image) in enumerate(zip(ids, images, strict=True))
        ]
        try:
            self._file.executemany("INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?)", rows)
            self._file.commit()
        except sqlite3.Error as error:
            raise BadParameter(f"the predictions in {self.path} cannot be written: {error}.") from error


def _digest(image: Tensor) -> bytes:
    """Of an image at 8 bits, so that the last bit of an interpolation does not matter."""
    return hashlib.blake2b((image * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy().tobytes(), digest_size=8).digest()


def top_of(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The most probable classes (N, count), and their probabilities, of (N, K)."""
    top = probabilities.topk(min(count, probabilities.shape[1]), dim=1)
    return top.indices, top.values


def spread(classes: Tensor, probabilities: Tensor, count: int) -> Tensor:
    """Distributions (N, count) over all classes, of which the top are given (N, k); the others share the rest evenly."""
    rest = (1 - probabilities.sum(dim=1, keepdim=True)).clamp_min(0.0)
    others = count - classes.shape[1]
    base = (rest / others).expand(-1, count) if others else torch.zeros(len(classes), count, device=classes.device)
    return base.to(probabilities).scatter(1, classes, probabilities)
