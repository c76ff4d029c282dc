"""Data sets with one folder for each class, checked against the list of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.left_out import LeftOut
from robustvit.data.formats.listing import EXTENSIONS, ImageFile, Listing, list_files, some_subfolders, subfolders
from robustvit.errors import DataMissing, DataUnreadable, few, nearest
from robustvit.primitives.batch import Traits
from robustvit.primitives.reading import Reading


class Labelled(NamedTuple):
    """The files of some class folders, with paths below the folder that holds these, and the index of each file's folder."""

    listing: Listing
    labels: list[int]


def class_folder_dataset(
    name: str, place: Path, folders: Sequence[str], *, prefix: str, classes: Sequence[str], readings: tuple[Reading, ...], traits: Traits,
    others: Sequence[str] = (), border: int = 0,
) -> FileDataset:  # fmt: skip
    """The data set of all of `folders` in `place`; ids are `<prefix>/<folder>/<path without ending>`, label i is the i-th folder.

    Raises as `list_all_classes` and `file_dataset` do.
    """
    found = list_all_classes(name, place, folders, others=others)
    ids = [f"{prefix}/{file.without_ending}" for file in found.listing.files]
    return file_dataset(
        name, place, found.listing, ids=ids, labels=found.labels, classes=classes, readings=readings, traits=traits, border=border
    )


def list_all_classes(data: str, place: Path, folders: Sequence[str], *, others: Sequence[str] = ()) -> Labelled:
    """Lists the files in `folders` of `place`, which must hold these folders and no more.

    others: folders that may be there as well and are left out. Raises DataMissing where none of the folders is there; DataUnreadable, with
    counts and names, where some are missing, some are unknown, or some hold no images.
    """
    refuse_other_folders(data, place, folders, others=others)
    found = list_classes(place, folders)
    refuse_empty(data, place, folders, found.labels)
    return found


def list_classes(place: Path, folders: Sequence[str], *, endings: tuple[str, ...] = EXTENSIONS) -> Labelled:
    """Lists the files with these endings in `folders` of `place`, at any depth."""
    parts = [list_files(place / name, endings=endings) for name in folders]
    files = [ImageFile(f"{name}/{file.path}", file.size) for name, part in zip(folders, parts, strict=True) for file in part.files]
    labels = [label for label, part in enumerate(parts) for _ in part.files]
    return Labelled(Listing(files, sum((part.ignored for part in parts), LeftOut())), labels)


def refuse_other_folders(data: str, place: Path, folders: Sequence[str], *, others: Sequence[str] = ()) -> None:
    """Raises as `list_all_classes` does for missing and unknown folders."""
    names = subfolders(place)
    missing = sorted(set(folders) - set(names), key=list(folders).index)
    extra = sorted(set(names) - set(folders) - set(others))
    if len(missing) == len(folders):
        raise DataMissing(
            f"data '{data}': {place} holds none of its {len(folders)} class folders ({few(folders)}); it holds {some_subfolders(place)}."
        )
    lacks = f"holds {len(folders) - len(missing)} of its {len(folders)} class folders; missing {few(missing)}" if missing else ""
    more = f"{len(extra)} of {len(names)} folders are not among its {len(folders)} classes: {few(extra)}" if extra else ""
    if lacks or more:
        hint = nearest(extra[0], missing or folders) if extra else ""
        raise DataUnreadable(f"data '{data}': {place} {lacks or 'holds more than its class folders'}{'; ' if more else ''}{more}.{hint}")


def refuse_empty(data: str, place: Path, folders: Sequence[str], labels: Sequence[int]) -> None:
    """Raises DataUnreadable where folders hold no images. labels: the index of each file's folder."""
    empty = [folders[i] for i in sorted(set(range(len(folders))) - set(labels))]
    if empty:
        raise DataUnreadable(f"data '{data}': {len(empty)} of the {len(folders)} class folders in {place} hold no images: {few(empty)}.")


def refuse_unknown_wnids(data: str, place: Path, hint: str = "") -> None:
    """Raises DataUnreadable where a folder in `place` is not named by the wnid of one of ImageNet's thousand classes.

    hint: the last sentence of the message.
    """
    names = subfolders(place)
    unknown = [name for name in names if name not in set(wnids())]
    if unknown:
        raise DataUnreadable(
            f"data '{data}': {len(unknown)} of {len(names)} folders in {place} are not among ImageNet's thousand classes: {few(unknown)}."
            f"{nearest(unknown[0], wnids())}{hint}"
        )
