"""The foreground masks of ImageNet-9: which pixels of each original image belong to its foreground."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustvit.data.formats.class_folders import list_classes, refuse_other_folders
from robustvit.data.formats.files import ImageFiles, last_written
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import refuse_unusable
from robustvit.errors import DataUnreadable
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading

_ENDINGS = (".npy",)


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """Reads masks from files, `paths` below `root`: (side, side) arrays of truth values, as images that are white in the foreground."""

    root: Path
    paths: tuple[str, ...]
    side: int

    def __call__(self, index: int) -> np.ndarray:
        """The mask, (side, side, 3) uint8. Raises DataUnreadable for a file that holds no mask."""
        return self.decode(index, self.content(index))

    def content(self, index: int) -> bytes:
        """The bytes of a file. Raises DataUnreadable where it cannot be read."""
        return ImageFiles(self.root, self.paths, "masks").content(index)

    def stamp(self, index: int) -> int:
        """When a file was last written, in nanoseconds; −1 where it is gone."""
        return last_written(self.root / self.paths[index])

    def decode(self, index: int, content: bytes) -> np.ndarray:
        """The mask that the bytes of a file hold. Raises DataUnreadable for anything else."""
        white = np.where(self._mask(index, content), np.uint8(255), np.uint8(0))
        return np.repeat(white[:, :, None], 3, axis=2)

    def _mask(self, index: int, content: bytes) -> np.ndarray:
        """(side, side) bool. Raises DataUnreadable for a file that holds anything else."""
        path, shape = self.root / self.paths[index], (self.side, self.side)
        try:
            found = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataUnreadable(f"{path}: {error}") from error
        if not isinstance(found, np.ndarray) or found.shape != shape or not np.isin(found, (0, 1)).all():
            what = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else "no array"
            raise DataUnreadable(f"{path}: a mask is {shape} of zeros and ones; this is {what}")
        return np.asarray(found != 0)


def mask_dataset(
    name: str, place: Path, folders: Sequence[str], *, side: int, classes: Sequence[str], readings: tuple[Reading, ...], traits: Traits
) -> ImageDataset[MaskFiles]:
    """The masks in `place/<folder>/*.npy`. Their ids are those of the original images, whose files have the same names.

    folders: those of the classes, in the classes' order. Raises DataMissing where there are no masks, DataUnreadable for other folders and
    for empty files.
    """
    refuse_other_folders(name, place, folders)
    found = list_classes(place, folders, endings=_ENDINGS)
    files = found.listing.files
    refuse_unusable(name, place, found.listing, what="masks", endings=_ENDINGS)
    return image_dataset(
        name, MaskFiles(place, tuple(file.path for file in files), side), ids=[f"{name}/original/{file.without_ending}" for file in files],
        labels=found.labels, classes=classes, readings=readings, marks=(f"mask {file.size}" for file in files), traits=traits,
        ignored=found.listing.ignored,
    )  # fmt: skip
