"""Data sets whose lists name each image file and its class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import ImageFile, Listing, need_folder, read_text, some_subfolders
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading


class Listed(NamedTuple):
    """An image file, by its path below the folder of the set, and its class."""

    path: str
    label: int


def folder_with(name: str, root: Path | None, marker: str, *inner: str) -> Path:
    """The folder of a data set: the root or one of `inner` below it, whichever has the file `marker`. Raises DataMissing for neither."""
    place = need_folder(root, name)
    for one in (place, *(place / below for below in inner)):
        if (one / marker).is_file():
            return one
    also = f", nor {' or '.join(f'{below}/{marker}' for below in inner)}" if inner else ""
    raise DataMissing(f"data '{name}': {place} holds no {marker}{also}; it holds {some_subfolders(place)}.")


def fields_of(path: Path, count: int) -> Iterator[list[str]]:
    """The words of each line of a list that is not empty and no comment: so many at least, the last with what is left.

    Raises DataMissing where there is no such list, DataUnreadable for a shorter line.
    """
    if not path.is_file():
        raise DataMissing(f"there is no {path}, which lists the images.")
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split(maxsplit=count - 1)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < count:
            raise DataUnreadable(f"{path}:{number} has {len(words)} words, '{line[:40]}'; a line of it has {count}.")
        yield words


def listed_dataset(name: str, split: str, place: Path, listed: Sequence[Listed], classes: Sequence[str], expected: int) -> FileDataset:
    """The data set of listed files; ids are `<name>/<split>/<path without ending>`, in the order of paths.

    Raises DataMissing where files are not there, DataUnreadable for a label that is no class.
    """
    ordered = sorted(listed)
    wrong = [one for one in ordered if not 0 <= one.label < len(classes)]
    if wrong:
        raise DataUnreadable(f"data '{name}': {wrong[0].path} has the class {wrong[0].label + 1}, and there are {len(classes)}.")
    missing = [one.path for one in ordered if not (place / one.path).is_file()]
    if missing:
        raise DataMissing(f"data '{name}': {len(missing)} of {len(ordered)} listed images are not in {place}: {few(missing)}.")
    files = [ImageFile(one.path, (place / one.path).stat().st_size) for one in ordered]
    return file_dataset(
        name, place, Listing(files), ids=[f"{name}/{split}/{file.without_ending}" for file in files], labels=[one.label for one in ordered],
        classes=classes, readings=(Reading("all", len(classes)),), traits=Traits(expected=expected),
    )  # fmt: skip


def checked_classes(name: str, classes: Sequence[str], count: int) -> tuple[str, ...]:
    """The classes. Raises DataUnreadable where they are not so many."""
    if len(classes) != count:
        raise DataUnreadable(f"data '{name}' lists {len(classes)} classes; it has {count}: the lists are not whole, or another set's.")
    return tuple(classes)
