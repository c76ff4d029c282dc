"""The content of images as digests of their bytes, by which a store and a cache notice that files have changed."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from robustvit.primitives.batch import Data

DIGEST_BYTES = 16  # among a million files none agree by chance


@runtime_checkable
class EncodedImages(Protocol):
    """The reader of a data set whose images are encoded files, or parts of files."""

    def content(self, index: int) -> bytes:
        """The bytes of an encoded image. Raises DataUnreadable where they cannot be read."""
        ...

    def decode(self, index: int, content: bytes) -> np.ndarray:
        """The image that the bytes hold, (H, W, 3) uint8 RGB. Raises DataUnreadable where they hold none."""
        ...

    def stamp(self, index: int) -> int:
        """When the file of an image was last written, in nanoseconds; −1 where that is not known. No byte of it is read."""
        ...


class DigestedImage(NamedTuple):
    """An image, (H, W, 3) uint8 RGB, and the digest of its bytes."""

    image: np.ndarray
    digest: bytes


def encoded_images(data: Data) -> EncodedImages | None:
    """The reader of a data set of encoded images; None for one that computes its images or holds them in memory."""
    read = getattr(data, "read", None)
    return read if isinstance(read, EncodedImages) else None


def read_digested(data: Data, index: int) -> DigestedImage:
    """An image with the digest of its encoded bytes, or of its pixels where it is not encoded. Raises DataUnreadable."""
    encoded = encoded_images(data)
    if encoded is None:
        image = data[index].image
        return DigestedImage(image, digest_of(repr(image.shape).encode() + image.tobytes()))
    content = encoded.content(index)
    return DigestedImage(encoded.decode(index, content), digest_of(content))


def digest_of(content: bytes) -> bytes:
    """The digest of some bytes, DIGEST_BYTES long."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
