"""Data sets in the webdataset layout of CLIP_benchmark, as its authors share them: `wds_NAME/test/0.tar`, with names of classes beside."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import need_folder, read_text, some_subfolders
from robustvit.data.formats.tars import TarMembers
from robustvit.data.shards import wds
from robustvit.errors import BadParameter, DataMissing, DataUnreadable
from robustvit.spec.registry import dataset

_NAME = "clip-benchmark"
_COUNT, _NAMES, _KIND = "nshards.txt", "classnames.txt", "dataset_type.txt"


@dataset(
    name=_NAME,
    source="CLIP_benchmark (LAION), clip_benchmark/datasets/builder.py",
    url="https://github.com/LAION-AI/CLIP_benchmark",
    licence="each data set has its own",
    rules="Download a folder wds_NAME of https://huggingface.co/clip-benchmark, then `--data clip-benchmark:wds_NAME`. Classes are the "
    "lines of its classnames.txt, in order; a model must have as many outputs.",
)
def clip_benchmark(root: Path | None, *, split: str = "test") -> ImageDataset[TarMembers]:
    """A data set for classification as CLIP_benchmark stores it, for models whose outputs are its classes.

    root: holds `<split>/0.tar` … `<split>/<n-1>.tar`, n being in `<split>/nshards.txt`, and `classnames.txt`, the name of each class index,
    a line each; without it classes are numbers. Samples have an image and a class index (.cls). Its templates of prompts are not
    read. Ids are `clip-benchmark/<split>/<tar>/<key>`. Sets for retrieval or with several labels an image are refused.
    Raises BadParameter, DataMissing, DataUnreadable.
    """
    place = need_folder(root, _NAME)
    if not split or "/" in split or split.startswith("."):
        raise BadParameter(
            f"data '{_NAME}': split is '{split}'; it is the name of a folder in {place}, which holds {some_subfolders(place)}."
        )
    _refuse_other_kinds(place)
    count = _shards(place, split)
    names = _class_names(place / _NAMES)
    found = wds(place / split / f"{{0..{count - 1}}}.tar", classes=len(names) or None)
    _refuse_unlabelled(place / split / "0.tar")
    classes = names or found.classes
    ids = tuple(f"{_NAME}/{split}/{name.removeprefix('wds/')}" for name in found.ids)
    marks = (member.size for member in found.read.places)
    read = replace(found.read, ids=ids)
    return image_dataset(
        _NAME, read, ids=ids, labels=found.labels, classes=classes, readings=readings(classes), marks=marks, ignored=found.ignored
    )


def _refuse_other_kinds(place: Path) -> None:
    kind = read_text(place / _KIND).strip().lower() if (place / _KIND).is_file() else "classification"
    if kind != "classification":
        raise DataUnreadable(f"data '{_NAME}': {place / _KIND} says '{kind}'; only classification, one class an image, is read.")


def _shards(place: Path, split: str) -> int:
    path = place / split / _COUNT
    if not path.is_file():
        raise DataMissing(f"data '{_NAME}': there is no {path}, the number of tars; {place} holds {some_subfolders(place)}.")
    text = read_text(path).strip()
    if not text.isdecimal() or int(text) < 1:
        raise DataUnreadable(f"data '{_NAME}': {path} holds '{text[:40]}'; it must be the number of tars.")
    return int(text)


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip()) if path.is_file() else ()


def _refuse_unlabelled(shard: Path) -> None:
    """Raises DataUnreadable for a tar without class indices, whose images would else be labelled by its name."""
    with tarfile.open(shard, "r:") as tar:
        if not any(member.name.endswith(".cls") for member in tar):
            raise DataUnreadable(f"data '{_NAME}': no sample of {shard} has a class index (.cls).")
