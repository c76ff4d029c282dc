"""A chunk of decoded images on disk: the images, the digest of each one's bytes, when its file was last written, and a checksum."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np

from robustvit.primitives.content import DIGEST_BYTES
from robustvit.records.disk import replace_file

_KNOWN = np.dtype([("digest", np.uint8, (DIGEST_BYTES,)), ("stamp", np.int64)])
_CHECKSUM = 4  # bytes of CRC-32 behind the arrays


def write_chunk(path: Path, images: np.ndarray, digests: np.ndarray, stamps: np.ndarray) -> np.ndarray:
    """Writes (n, H, W, 3) uint8 images, their (n, 16) uint8 digests and (n,) stamps; returns the latter two, (n,) with these fields.

    Raises OSError.
    """
    known = np.empty(len(images), _KNOWN)
    known["digest"], known["stamp"] = digests, stamps
    sink = io.BytesIO()
    np.save(sink, images, allow_pickle=False)
    np.save(sink, known, allow_pickle=False)
    sink.write(_checksum(images, known).to_bytes(_CHECKSUM, "little"))
    replace_file(path, sink.getbuffer())
    return known


def read_known(path: Path) -> np.ndarray:
    """What is known of the images of a chunk, (n,) with the fields digest and stamp.

    Raises OSError, EOFError or ValueError where the file is absent, truncated or damaged.
    """
    with path.open("rb") as file:
        images, known = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
        checksum = int.from_bytes(file.read(), "little")
    if known.dtype != _KNOWN or known.shape != images.shape[:1] or _checksum(images, known) != checksum:
        raise ValueError(f"{path} is damaged")
    return np.asarray(known)


def open_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The images of a chunk, mapped and not read. Raises OSError, EOFError or ValueError where the file holds others than of this shape."""
    images: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(f"{path} holds {images.shape} {images.dtype}")
    return images


def _checksum(images: np.ndarray, known: np.ndarray) -> int:
    return zlib.crc32(known.tobytes(), zlib.crc32(images.data))
