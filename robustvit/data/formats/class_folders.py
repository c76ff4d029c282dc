"""The folders of classes, held against the list of the classes that a data set has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustvit.data.folder import tree
from robustvit.data.formats.files import Listing, subfolders
from robustvit.errors import DataMissing, DataUnreadable, few, nearest


def pictures(data: str, place: Path, folders: Sequence[str], *, others: Sequence[str] = ()) -> tuple[Listing, list[int]]:
    """What lies in the folders of `place`, which must be just these, and the index of each picture's folder.

    others: folders that may be there as well and are left alone. Raises DataMissing where none is there; DataUnreadable, with counts and
    names, where some are missing, some are none of them, or some hold no images.
    """
    match(data, place, folders, others=others)
    found, labels = tree(place, list(folders))
    refuse_empty(data, place, folders, labels)
    return found, labels


def match(data: str, place: Path, folders: Sequence[str], *, others: Sequence[str] = ()) -> None:
    """Raises as `pictures` does, for what the names of folders tell."""
    names = subfolders(place)
    missing = sorted(set(folders) - set(names), key=list(folders).index)
    extra = sorted(set(names) - set(folders) - set(others))
    if len(missing) == len(folders):
        raise DataMissing(
            f"data '{data}': {place} holds none of its {len(folders)} class folders ({few(folders)}); it holds {few(names) or 'no folders'}."
        )
    lacks = f"holds {len(folders) - len(missing)} of its {len(folders)} class folders; missing {few(missing)}" if missing else ""
    more = f"{len(extra)} of {len(names)} folders are not among its {len(folders)} classes: {few(extra)}" if extra else ""
    if lacks or more:
        hint = nearest(extra[0], missing or folders) if extra else ""
        raise DataUnreadable(f"data '{data}': {place} {lacks or 'holds more than its class folders'}{'; ' if more else ''}{more}.{hint}")


def refuse_empty(data: str, place: Path, folders: Sequence[str], labels: Sequence[int]) -> None:
    """Raises DataUnreadable where folders hold no images. labels: the index of each picture's folder."""
    empty = [folders[i] for i in sorted(set(range(len(folders))) - set(labels))]
    if empty:
        raise DataUnreadable(f"data '{data}': {len(empty)} of the {len(folders)} class folders in {place} hold no images: {few(empty)}.")
