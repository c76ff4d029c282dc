"""Data sets that are image files in folders: listed at the door, decoded when asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustvit.data.formats.decode import decode
from robustvit.data.formats.fingerprint import fingerprint, refuse_repeats
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Sample, Traits
from robustvit.primitives.reading import Reading
from robustvit.spec.data_address import places

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


class Picture(NamedTuple):
    """An image file: its path below the folder that was listed, with `/` between names, and its size in bytes."""

    path: str
    size: int


class Listing(NamedTuple):
    """The images below a folder, sorted by path, and how many other files lie beside them."""

    pictures: list[Picture]
    ignored: int


@dataclass(frozen=True, eq=False)
class Files:
    """Pictures in files: `paths` below `root`. `ignored` counts the files that are no images; `border` pixels are cut off every side."""

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
    border: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], self.picture(index, self.content(index)), int(self.labels[index]))

    def content(self, index: int) -> bytes:
        """The bytes of a file. Raises DataUnreadable where it cannot be read."""
        try:
            return (self.root / self.paths[index]).read_bytes()
        except OSError as error:
            raise DataUnreadable(f"{self._shown(index)}: {error.strerror}") from error

    def picture(self, index: int, content: bytes) -> np.ndarray:
        """What the bytes of a file show. Raises DataUnreadable for bytes that are no picture, or one of another size than it should have."""
        shown = self._shown(index)
        image = decode(content, shown)
        if self.traits.cut is not None and image.shape[:2] != (self.traits.cut, self.traits.cut):
            height, width = image.shape[:2]
            raise DataUnreadable(f"{shown}: {height}x{width} pixels; the pictures of '{self.name}' are {self.traits.cut}x{self.traits.cut}")
        if min(image.shape[:2]) <= 2 * self.border:
            raise DataUnreadable(f"{shown}: {image.shape[0]}x{image.shape[1]} pixels leave nothing without a border of {self.border}")
        return image[self.border : -self.border, self.border : -self.border] if self.border else image

    def _shown(self, index: int) -> str:
        """What messages call a picture: a variant shares the ids of what it is a variant of, so it is called by its file."""
        return str(self.root / self.paths[index]) if self.traits.base else self.ids[index]


def files(
    name: str, root: Path, listing: Listing, *, ids: Sequence[str], labels: Sequence[int], classes: Sequence[str],
    readings: tuple[Reading, ...], traits: Traits | None = None, border: int = 0,
) -> Files:  # fmt: skip
    """The data set of listed files. Its fingerprint covers ids, sizes, labels, facts and the border that is cut off, so moving the tree changes nothing.

    Raises DataMissing where there are no images, DataUnreadable where files are empty or two share an id.
    """
    if not listing.pictures:
        raise DataMissing(f"data '{name}': {root} holds no images ({listing.ignored} other files). Images end in {', '.join(EXTENSIONS)}.")
    empty = [picture.path for picture in listing.pictures if picture.size == 0]
    if empty:
        raise DataUnreadable(f"data '{name}': {len(empty)} image files in {root} are empty: {few(empty)}. Restore or remove them.")
    refuse_repeats(ids, name)
    array = np.array(labels, dtype=np.int64)
    array.flags.writeable = False
    own = traits or Traits()
    paths = tuple(picture.path for picture in listing.pictures)
    mark = fingerprint(ids, array, classes, _marks(listing.pictures, own, border))
    return Files(name, mark, tuple(ids), array, tuple(classes), readings, root, paths, listing.ignored, traits=own, border=border)


def _marks(pictures: Sequence[Picture], own: Traits, border: int) -> Iterator[object]:
    """What stands for each picture's content: its size, the facts told of it, and the border that is cut off it."""
    facts = [own.facts[name] for name in sorted(own.facts)]
    more = (f"border {border}",) * (border > 0)
    for i, picture in enumerate(pictures):
        yield (picture.size, *(values[i] for values in facts), *more) if facts or more else picture.size


def need(root: Path | None, name: str) -> Path:
    """The folder or file that a data set was given. Raises DataMissing where none was, or where it is not there."""
    if root is None:
        looked = " and ".join(f"{words} ({place.absolute()})" for words, place in places(name).items())
        raise DataMissing(
            f"data '{name}' needs its files: give --data-dir PATH. Looked in {looked}; `robustvit data` says how to get them."
        )
    if not root.exists():
        raise DataMissing(f"data '{name}': there is nothing at {root}. `robustvit data` says where data is looked for and how to get it.")
    return root


def need_folder(root: Path | None, name: str) -> Path:
    """As `need`, and a folder. Raises DataMissing where it is a file."""
    place = need(root, name)
    if not place.is_dir():
        raise DataMissing(f"data '{name}': {place} is a file; give the folder that holds the images.")
    return place


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones and archive leftovers (`.…`, `__…`) are left out."""
    return sorted(item.name for item in _scan(folder) if item.is_dir() and not item.name.startswith((".", "__")))


def listing(folder: Path, *, below: bool = True, endings: tuple[str, ...] = EXTENSIONS) -> Listing:
    """The images in a folder and, where `below`, in the folders below it. Links to folders are followed at the top only.

    endings: of the names of files that count.
    """
    found: list[Picture] = []
    ignored = _collect(folder, "", found, below, endings)
    return Listing(sorted(found), ignored)


def written(name: str) -> str:
    """A file name as text that can be hashed and stored, whatever bytes it has on disk."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _collect(folder: Path, prefix: str, found: list[Picture], below: bool, endings: tuple[str, ...]) -> int:
    ignored = 0
    for item in _scan(folder):
        if item.name.startswith("."):
            continue
        if item.is_dir(follow_symlinks=False):
            ignored += _collect(Path(item.path), f"{prefix}{item.name}/", found, below, endings) if below else 0
        elif item.name.lower().endswith(endings):
            found.append(Picture(prefix + item.name, _size(item)))
        else:
            ignored += 1
    return ignored


def _size(item: os.DirEntry[str]) -> int:
    try:
        return item.stat().st_size
    except OSError as error:
        raise DataUnreadable(f"{item.path}: {error.strerror}. Restore or remove it.") from error


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        raise DataUnreadable(f"the folder {folder} cannot be listed: {error.strerror}.") from error
