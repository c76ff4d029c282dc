"""Reads the reassessed labels of ImageNet's validation images (ReaL): for each image the classes in it, none or several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from robustvit.data.annotations.label_tables import image_number
from robustvit.data.annotations.validation_labels import label_folders
from robustvit.data.annotations.wnids import wnids
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataMissing, DataUnreadable, few, with_article

NAME = "real.json"
URL = "https://github.com/google-research/reassessed-imagenet"
_COUNT = 50_000


def find_real(place: Path, stems: Sequence[str]) -> list[list[int]]:
    """The reassessed class indices of the images in `place`, by their file names without ending; an empty list excludes an image.

    From real.json, searched in `place` and up to four folders above: a list of 50,000 lists, the i-th for ILSVRC2012_val_0000000i.
    Raises DataMissing where there is none, DataUnreadable, with counts, for an incomplete one and for images that it does not label.
    """
    path = next((folder / NAME for folder in label_folders(place) if (folder / NAME).is_file()), None)
    if path is None:
        raise DataMissing(f"data 'imagenet': labels=real needs {NAME} beside the images in {place} or above; it is at {URL}.")
    table = _table(path)
    numbers = [image_number(stem) for stem in stems]
    unlabelled = [stem for stem, number in zip(stems, numbers, strict=True) if not 1 <= number <= len(table)]
    if unlabelled:
        raise DataUnreadable(
            f"{path} labels ILSVRC2012_val_00000001 to ILSVRC2012_val_{len(table):08d}; {len(unlabelled)} images in {place} are none of "
            f"these: {few(unlabelled)}."
        )
    return [table[number - 1] for number in numbers]


def _table(path: Path) -> list[list[int]]:
    try:
        found = json.loads(read_text(path))
    except (DataUnreadable, ValueError) as error:
        raise DataUnreadable(f"{path} cannot be read as JSON: {error}. Download it again from {URL}.") from error
    if not isinstance(found, list) or len(found) != _COUNT:
        size = f"{len(found):,} entries" if isinstance(found, list) else f"{with_article(type(found).__name__)}"
        raise DataUnreadable(f"{path} holds {size}; it must be a list of {_COUNT:,} lists. Download it again from {URL}.")
    wrong = [i for i, classes in enumerate(found) if not _is_list_of_classes(classes)]
    if wrong:
        raise DataUnreadable(
            f"{path}: {len(wrong)} of its {_COUNT:,} entries are not lists of classes 0 to {len(wnids()) - 1}; the first is that of "
            f"ILSVRC2012_val_{wrong[0] + 1:08d}, {json.dumps(found[wrong[0]])[:60]}."
        )
    return found


def _is_list_of_classes(classes: object) -> bool:
    return isinstance(classes, list) and all(type(one) is int and 0 <= one < len(wnids()) for one in classes)
