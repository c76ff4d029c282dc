"""The masks of ImageNet-9: which pixels of each original picture are its foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robustvit.data.formats.class_folders import match
from robustvit.data.formats.files import listing, written
from robustvit.data.formats.fingerprint import fingerprint
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Sample, Traits
from robustvit.primitives.reading import Reading

_ENDINGS = (".npy",)


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks in files: `paths` below `root`, each a (side, side) array of truth values. A sample's picture is white where the foreground is."""

    name: str
    fingerprint: str
    ids: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    readings: tuple[Reading, ...]
    root: Path
    paths: tuple[str, ...]
    ignored: int = 0
    source: str = "original"
    traits: Traits = field(default_factory=Traits)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        shown = np.where(self._mask(index), np.uint8(255), np.uint8(0))
        return Sample(self.ids[index], np.repeat(shown[:, :, None], 3, axis=2), int(self.labels[index]))

    def _mask(self, index: int) -> np.ndarray:
        """(side, side) bool. Raises DataUnreadable for a file that holds anything else."""
        path, side = self.root / self.paths[index], self.traits.cut
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataUnreadable(f"{path}: {error}") from error
        if not isinstance(found, np.ndarray) or found.shape != (side, side) or not np.isin(found, (0, 1)).all():
            what = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else "no array"
            raise DataUnreadable(f"{path}: a mask is ({side}, {side}) of zeros and ones; this is {what}")
        white: np.ndarray = found != 0
        return white


def masks(
    name: str, place: Path, folders: Sequence[str], *, classes: Sequence[str], readings: tuple[Reading, ...], traits: Traits
) -> Masks:
    """The masks in `place/<folder>/*.npy`. Their ids are those of the original pictures, whose files bear the same names.

    folders: those of the classes, in the classes' order. Raises DataMissing where there are no masks, DataUnreadable for other folders and
    for empty files.
    """
    match(name, place, folders)
    parts = [listing(place / folder, endings=_ENDINGS) for folder in folders]
    found = [(f"{folders[label]}/{mask.path}", mask.size, label) for label, part in enumerate(parts) for mask in part.pictures]
    ignored = sum(part.ignored for part in parts)
    if not found:
        raise DataMissing(f"data '{name}': {place} holds no masks ({ignored} other files). They end in {', '.join(_ENDINGS)}.")
    empty = [path for path, size, _ in found if size == 0]
    if empty:
        raise DataUnreadable(f"data '{name}': {len(empty)} masks in {place} are empty: {few(empty)}. Restore or remove them.")
    paths, sizes, numbers = zip(*found, strict=True)
    ids = tuple(f"{name}/original/{written(path.rpartition('.')[0])}" for path in paths)
    labels = np.array(numbers, dtype=np.int64)
    labels.flags.writeable = False
    mark = fingerprint(ids, labels, classes, (f"mask {size}" for size in sizes))
    return Masks(name, mark, ids, labels, tuple(classes), readings, place, paths, ignored, traits=traits)
