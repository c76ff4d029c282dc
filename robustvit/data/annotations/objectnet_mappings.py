"""Maps classes of ObjectNet to ImageNet's thousand, from the four files that come with it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataMissing, DataUnreadable, few, with_article

FOLDERS = "folder_to_objectnet_label.json"  # {folder: label}, 313 of them
SHARED = "objectnet_to_imagenet_1k.json"  # {label: "ImageNet's name; another"}, 113 of them
LINES = "pytorch_to_imagenet_2012_id.json"  # {class index: line of the following file, from 0}
NAMES = "imagenet_to_label_2012_v2"  # ImageNet's names, a line each, in an order of their own
_COUNT = 113


class Shared(NamedTuple):
    """A class of ObjectNet that is in ImageNet: its folder, its label, and the indices of the corresponding ImageNet classes."""

    folder: str
    label: str
    columns: tuple[int, ...]


def shared_classes(place: Path) -> tuple[Shared, ...]:
    """The 113 classes of ObjectNet that ImageNet has, by the names of their folders.

    place: the folder `mappings`. Raises DataMissing where a file is missing, DataUnreadable, with counts and names, for incomplete files.
    """
    lacking = [name for name in (FOLDERS, SHARED, LINES, NAMES) if not (place / name).is_file()]
    if lacking:
        raise DataMissing(f"data 'objectnet': {len(lacking)} of the 4 mapping files are not in {place}: {few(lacking)}.")
    folder_of, index_of = _folder_of(place / FOLDERS), _indices(place)
    names = {label: names.split("; ") for label, names in _texts(place / SHARED).items()}
    _refuse(place / SHARED, "labels that no folder has", [label for label in names if label not in folder_of])
    used = [name for listed in names.values() for name in listed]
    _refuse(place / SHARED, f"names that are not one line of {NAMES}", [name for name in used if index_of.get(name) is None])
    _refuse(place / SHARED, "names of two objects", [name for name, count in Counter(used).items() if count > 1])
    if len(names) != _COUNT:
        raise DataUnreadable(f"{place / SHARED} maps {len(names)} classes to ImageNet's; there are {_COUNT}. Restore the file.")
    shared = [Shared(folder_of[label], label, tuple(sorted(index_of[name] or 0 for name in listed))) for label, listed in names.items()]
    return tuple(sorted(shared))


def folders(place: Path) -> tuple[str, ...]:
    """The folders of all of ObjectNet's classes, shared with ImageNet or not. Raises as `shared_classes` does."""
    return tuple(_texts(place / FOLDERS))


def _folder_of(path: Path) -> dict[str, str]:
    """The folder of each label."""
    labels = _texts(path)
    _refuse(path, "labels of two folders", [label for label, count in Counter(labels.values()).items() if count > 1])
    return {label: folder for folder, label in labels.items()}


def _indices(place: Path) -> dict[str, int | None]:
    """The class index of each of ImageNet's names; None for a name that two classes have."""
    lines = _json(place / LINES)
    names = [line.strip() for line in read_text(place / NAMES).rstrip("\n").split("\n")]
    wanted = [str(index) for index in range(len(wnids()))]
    _refuse(place / LINES, f"of {len(wanted)} classes without a line", [index for index in wanted if index not in lines])
    outside = [key for key in wanted if type(lines[key]) is not int or not 0 <= lines[key] < len(names)]
    _refuse(place / LINES, f"classes whose line is none of the {len(names)} of {NAMES}", outside)
    repeated = [str(line) for line, count in Counter(lines[key] for key in wanted).items() if count > 1]
    _refuse(place / LINES, "lines of two classes", repeated)
    counts = Counter(names)
    return {names[lines[key]]: int(key) if counts[names[lines[key]]] == 1 else None for key in wanted}


def _refuse(path: Path, what: str, wrong: list[str]) -> None:
    if wrong:
        raise DataUnreadable(f"{path} has {len(wrong)} {what}: {few(wrong)}. Restore the file.")


def _texts(path: Path) -> dict[str, str]:
    found = _json(path)
    _refuse(path, "entries that are not text", [key for key, value in found.items() if not isinstance(value, str)])
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise DataUnreadable(f"{path} is no JSON: {error}. Restore the file.") from error
    if not isinstance(found, dict):
        raise DataUnreadable(f"{path} holds {with_article(type(found).__name__)}; it must be a mapping of names. Restore the file.")
    return found
