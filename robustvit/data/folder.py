"""Any tree of images with one folder for each class."""

from __future__ import annotations

from pathlib import Path

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.files import Files, Listing, Picture, files, listing, need_folder, subfolders, written
from robustvit.errors import DataMissing
from robustvit.spec.registry import dataset

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataset(
    source="your own images",
    licence="as their owner says",
    rules="Your own images: one folder for each class under --data-dir PATH, or `--data folder:PATH`.",
)
def folder(root: Path | None) -> Files:
    """Images in `root/<class>/…`, at any depth below; classes are the folders' sorted names, and label i is the i-th.

    Ids are `folder/<class>/<path>`, so moving the tree changes nothing. Where every folder is named by an ImageNet wnid, but some of
    the thousand are absent, models of a thousand classes are read among the classes present (`mask`) and among all (`1000way`).
    """
    place = need_folder(root, "folder")
    classes = subfolders(place)
    _refuse_splits(classes, place)
    found, labels = tree(place, classes)
    ids = [f"folder/{written(picture.path)}" for picture in found.pictures]
    names = [written(name) for name in classes]
    return files("folder", place, found, ids=ids, labels=labels, classes=names, readings=readings(names))


def tree(place: Path, classes: list[str]) -> tuple[Listing, list[int]]:
    """What lies in the folders `classes` of `place`, with paths below `place`, and the index of each picture's folder."""
    pictures: list[Picture] = []
    labels: list[int] = []
    ignored = 0
    for label, name in enumerate(classes):
        inside = listing(place / name)
        pictures += [Picture(f"{name}/{picture.path}", picture.size) for picture in inside.pictures]
        labels += [label] * len(inside.pictures)
        ignored += inside.ignored
    return Listing(pictures, ignored), labels


def _refuse_splits(classes: list[str], place: Path) -> None:
    if not classes:
        raise DataMissing(f"data 'folder': {place} has no folders in it; each class is a folder of images.")
    if {name.lower() for name in classes} <= _SPLITS:
        raise DataMissing(f"data 'folder': the folders in {place} look like splits ({', '.join(classes)}); give one, {place / classes[0]}.")
