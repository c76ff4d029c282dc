"""Data sets of image files in folders: listed when they are opened, decoded on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from robustvit.data.formats.decode import decode, decode_pages
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import ImageFile, Listing, refuse_unusable
from robustvit.errors import DataUnreadable
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Reads the image files `paths` below `root`.

    data: the name of the data set. names: what messages call each file, None for its path. side: the height and width that every image must
    have, None for any. border: the number of pixels that are cut off every side. channels: other than three, files are TIFF with a page for
    each.
    """

    root: Path
    paths: tuple[str, ...]
    data: str
    names: Sequence[str] | None = None
    side: int | None = None
    border: int = 0
    channels: int = 3

    def __call__(self, index: int) -> np.ndarray:
        """The image. Raises DataUnreadable as `content` and `decode` do."""
        return self.decode(index, self.content(index))

    def content(self, index: int) -> bytes:
        """The bytes of a file. Raises DataUnreadable where it cannot be read."""
        try:
            return (self.root / self.paths[index]).read_bytes()
        except OSError as error:
            raise DataUnreadable(f"{self._shown(index)}: {error.strerror}") from error

    def stamp(self, index: int) -> int:
        """When a file was last written, in nanoseconds; −1 where it is gone."""
        return last_written(self.root / self.paths[index])

    def decode(self, index: int, content: bytes) -> np.ndarray:
        """Decodes the bytes of a file and cuts the border off. Raises DataUnreadable for bytes that are no image and for a wrong size."""
        shown = self._shown(index)
        image = decode(content, shown) if self.channels == 3 else decode_pages(content, shown, self.channels)
        height, width = image.shape[:2]
        if self.side is not None and (height, width) != (self.side, self.side):
            raise DataUnreadable(f"{shown}: {height}x{width} pixels; the images of '{self.data}' are {self.side}x{self.side}")
        if min(height, width) <= 2 * self.border:
            raise DataUnreadable(f"{shown}: {height}x{width} pixels leave nothing without a border of {self.border}")
        return image[self.border : -self.border, self.border : -self.border] if self.border else image

    def _shown(self, index: int) -> str:
        return str(self.root / self.paths[index]) if self.names is None else self.names[index]


def last_written(path: Path) -> int:
    """When a file was last written, in nanoseconds; −1 where it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


FileDataset: TypeAlias = ImageDataset[ImageFiles]


def file_dataset(
    name: str, root: Path, listing: Listing, *, ids: Sequence[str], labels: Sequence[int], classes: Sequence[str],
    readings: tuple[Reading, ...], traits: Traits | None = None, border: int = 0, source: str = "original",
) -> FileDataset:  # fmt: skip
    """The data set of listed files.

    Its fingerprint covers ids, sizes, labels, facts, border and the first 64 files' bytes, so moving the folder changes nothing.

    Messages call an image by its id, but by its path in a variant, which shares its ids with the data set that it is a variant of.
    Raises DataMissing where there are no images, DataUnreadable where files are empty or two samples have the same id.
    """
    refuse_unusable(name, root, listing)
    own = traits or Traits()
    paths = tuple(file.path for file in listing.files)
    read = ImageFiles(root, paths, name, None if own.base else tuple(ids), own.cut, border, own.channels)
    return image_dataset(
        name, read, ids=ids, labels=labels, classes=classes, readings=readings, marks=_marks(listing.files, own, border),
        source=source, traits=own, ignored=listing.ignored,
    )  # fmt: skip


def _marks(files: Sequence[ImageFile], own: Traits, border: int) -> Iterator[object]:
    """The mark of each image in the fingerprint: its size, its facts, the border that is cut off, and channels other than three."""
    facts = [own.facts[name] for name in sorted(own.facts)]
    more = (f"border {border}",) * (border > 0) + (f"channels {own.channels}",) * (own.channels != 3)
    for i, file in enumerate(files):
        yield (file.size, *(values[i] for values in facts), *more) if facts or more else file.size
