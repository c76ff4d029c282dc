"""Any folder of images with one subfolder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.class_folders import list_classes
from robustvit.data.formats.class_order import Order, class_order
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import as_text, need_folder, subfolders
from robustvit.errors import DataMissing
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

Channels = Annotated[int, Ge(1), Le(4096)]
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataset(
    source="your own images",
    licence="set by their owner",
    rules="Your own images: one folder for each class under --data-dir PATH, or `--data folder:PATH`.",
)
def folder(root: Path | None, *, order: Order | None = None, classes: str | None = None, channels: Channels = 3) -> FileDataset:
    """Images in `root/<class>/…`, at any depth; the classes are the folders in it, numbered by their names.

    order: `text` or `natural` (`class_2` before `class_10`, as timm sorts); where these differ, or case matters, one of them must be given,
    or classes: a class map, such as a file with one name a line in the order of the labels (see `read_class_map`).
    Ids are `folder/<class>/<path>`, so moving the folder changes nothing. Where every class folder is named by an ImageNet wnid, but some
    of the thousand are absent, models of a thousand classes are read among the classes present (`mask`) and among all (`1000way`).
    channels: other than three, every file is a TIFF with a grey page of 8 bits for each channel, and models take as many.
    """
    place = need_folder(root, "folder")
    present = subfolders(place)
    _refuse_splits(present, place)
    numbered = class_order("folder", present, order, classes, place)
    found, labels = list_classes(place, numbered.names)
    ids = [f"folder/{as_text(file.path)}" for file in found.files]
    names = [as_text(name) for name in numbered.names]
    own = Traits(ambiguous_order=numbered.ambiguous, channels=channels)
    return file_dataset("folder", place, found, ids=ids, labels=labels, classes=names, readings=readings(names), traits=own)


def _refuse_splits(classes: list[str], place: Path) -> None:
    if not classes:
        raise DataMissing(f"data 'folder': {place} has no folders in it; each class is a folder of images.")
    if {name.lower() for name in classes} <= _SPLITS:
        raise DataMissing(f"data 'folder': the folders in {place} look like splits ({', '.join(classes)}); give one, {place / classes[0]}.")
