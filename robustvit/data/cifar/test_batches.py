"""The test images of CIFAR-10 and CIFAR-100, from the batch files of their authors, without running what a pickle asks for."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustvit.data.formats.plain_pickle import load_plain
from robustvit.errors import DataMissing, DataUnreadable

SIDE = 32  # pixels
_PIXELS = 3 * SIDE * SIDE


class Batch(NamedTuple):
    """(N, 32, 32, 3) uint8 RGB and (N,) class indices."""

    images: np.ndarray
    labels: np.ndarray


class Batches(NamedTuple):
    """Where one of the two sets lies: `python` and `binary` are files below the folder that was given.

    key: of the labels in the pickle. label_bytes: before each image of the binary file, of which the last is the label.
    """

    python: str
    binary: str
    key: bytes
    label_bytes: int


def read_test_batch(data: str, root: Path, batches: Batches) -> Batch:
    """The test images and labels of `root`, from the Python version (which torchvision unpacks) or the binary version.

    Raises DataMissing where neither is there, DataUnreadable for a file that is not such a batch.
    """
    for inner in ("", batches.python.partition("/")[0], batches.binary.partition("/")[0]):
        python, binary = root / inner / batches.python.partition("/")[2], root / inner / batches.binary.partition("/")[2]
        if python.is_file():
            return _from_pickle(python, batches)
        if binary.is_file():
            return _from_binary(binary, batches)
    raise DataMissing(
        f"data '{data}': {root} holds neither {batches.python} (the Python version, as torchvision unpacks it) nor {batches.binary}."
    )


def _from_pickle(path: Path, batches: Batches) -> Batch:
    try:
        content = load_plain(path.read_bytes(), "a batch of images", encoding="bytes")
        flat, labels = content[b"data"], np.asarray(content[batches.key])
        return _checked(path, np.asarray(flat), labels)
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DataUnreadable(f"{path} is not a batch of the Python version: {error!r}.") from error


def _from_binary(path: Path, batches: Batches) -> Batch:
    size = batches.label_bytes + _PIXELS
    try:
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DataUnreadable(f"{path}: {error.strerror}.") from error
    if not len(content) or len(content) % size:
        raise DataUnreadable(f"{path} has {len(content):,} bytes; the binary version has {size:,} for each image.")
    rows = content.reshape(-1, size)
    return _checked(path, rows[:, batches.label_bytes :], rows[:, batches.label_bytes - 1])


def _checked(path: Path, flat: np.ndarray, labels: np.ndarray) -> Batch:
    if flat.ndim != 2 or flat.shape[1] != _PIXELS or flat.dtype != np.uint8 or labels.shape != flat.shape[:1]:
        raise DataUnreadable(
            f"{path}: its images are {flat.shape} {flat.dtype} with {labels.shape} labels; they must be (N, {_PIXELS}) uint8 and (N,)."
        )
    return Batch(np.ascontiguousarray(flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels)


def refuse_other_labels(data: str, path: Path, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raises DataUnreadable where labels are no indices of `classes`."""
    if not np.issubdtype(labels.dtype, np.integer) or (labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes)):
        shown = f" from {labels.min()} to {labels.max()}" if labels.size else ""
        raise DataUnreadable(
            f"data '{data}': the labels of {path} are {labels.dtype}{shown}; they must be whole numbers from 0 to {len(classes) - 1}."
        )
