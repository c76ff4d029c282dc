"""ImageNet-HR: five high-resolution images of each of ImageNet's classes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from robustvit.data.annotations.wnids import readings, wnids
from robustvit.data.formats.class_folders import Labelled, list_all_classes
from robustvit.data.formats.files import FileDataset, file_dataset
from robustvit.data.formats.listing import Listing, list_files, need_folder, read_text, subfolders
from robustvit.errors import DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_NAME = "imagenet-hr"
_TABLE = "metadata.jsonl"
_INNER = (".", "test", "imagenet-hr", "ImageNet-HR", "imagenet-hr/test", "ImageNet-HR/test")


@dataset(
    name=_NAME,
    downloads=({"url": "hf://datasets/antofuller/ImageNet-HR"},),
    source="Fuller, Kyrollos, Yassin and Green 2024, LookHere",
    url="https://huggingface.co/datasets/antofuller/ImageNet-HR",
    licence="MIT",
    rules="Download the data set antofuller/ImageNet-HR from the Hugging Face hub (5,000 images of 1,024 px, five of each class), "
    "then --data-dir FOLDER.",
    citation="""@inproceedings{fuller2024lookhere,
  title={{LookHere}: Vision Transformers with Directed Attention Generalize and Extrapolate},
  author={Fuller, Anthony and Kyrollos, Daniel G. and Yassin, Yousef and Green, James R.},
  booktitle={Advances in Neural Information Processing Systems},
  year={2024}
}""",
)
def imagenet_hr(root: Path | None) -> FileDataset:
    """ImageNet-HR, for models whose input is larger than 224 pixels; other models resize it by their own view.

    root: holds, itself or in `test/` or `ImageNet-HR/`, the images as they are on the hub, flat with a metadata.jsonl that labels them
    (`file_name`, and `label` or `labels` with one class index), or as folders named by wnid or by class index.
    """
    place = need_folder(root, _NAME)
    above = [place / inner for inner in _INNER if (place / inner).is_dir()]
    table = next((folder / _TABLE for folder in above if (folder / _TABLE).is_file()), None)
    here = table.parent if table is not None else next((folder for folder in above if _sorted_by_class(folder)), place)
    found, labels = _labelled(table) if table is not None else list_all_classes(_NAME, here, _folders(here))
    ids = [f"{_NAME}/{label}/{file.stem}" for label, file in zip(labels, found.files, strict=True)]
    own = Traits(base="imagenet", scenario=_NAME, expected=5_000)
    return file_dataset(_NAME, here, found, ids=ids, labels=labels, classes=wnids(), readings=readings(wnids()), traits=own)


def _folders(place: Path) -> tuple[str, ...]:
    """The names of the class folders: numbers where any is one, else wnids."""
    return tuple(str(label) for label in range(len(wnids()))) if any(name.isdecimal() for name in subfolders(place)) else wnids()


def _sorted_by_class(place: Path) -> bool:
    return any(name.isdecimal() or name in wnids() for name in subfolders(place))


def _labelled(table: Path) -> Labelled:
    """The images that a metadata.jsonl labels. Raises DataUnreadable, with counts, where labels or images are missing."""
    known = _table(table)
    found = list_files(table.parent)
    unlabelled = [file.path for file in found.files if file.path not in known]
    if unlabelled:
        raise DataUnreadable(f"data '{_NAME}': {table} labels none of {len(unlabelled)} images beside it: {few(unlabelled)}.")
    there = {file.path for file in found.files}
    absent = [name for name in known if name not in there]
    if found.files and absent:
        raise DataUnreadable(
            f"data '{_NAME}': {len(absent)} of {len(known)} rows of {table} name images that are not there: {few(absent)}."
        )
    labels = [known[file.path] for file in found.files]
    lacking = [wnids()[label] for label in range(len(wnids())) if label not in set(labels)]
    if labels and lacking:
        raise DataUnreadable(
            f"data '{_NAME}': {len(lacking)} of its {len(wnids())} classes have no image in {table.parent}: {few(lacking)}."
        )
    return Labelled(Listing(found.files, found.ignored.without(table.suffix)), labels)


def _table(path: Path) -> dict[str, int]:
    rows = [_row(line) for line in read_text(path).splitlines() if line.strip()]
    wrong = [number for number, row in enumerate(rows, start=1) if row is None]
    if wrong:
        raise DataUnreadable(
            f"{path}: {len(wrong)} of {len(rows)} rows do not give a file_name and one label of 0 to {len(wnids()) - 1}; "
            f"the first is row {wrong[0]}."
        )
    labelled = [row for row in rows if row is not None]
    repeated = [name for name, count in Counter(name for name, _ in labelled).items() if count > 1]
    if repeated:
        raise DataUnreadable(f"{path} labels {len(repeated)} images more than once: {few(repeated)}.")
    return dict(labelled)


def _row(line: str) -> tuple[str, int] | None:
    """The image and the class of a row; None for a row that does not give exactly one class."""
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    name, label = row.get("file_name"), row.get("label", row.get("labels"))
    one = label[0] if isinstance(label, list) and len(label) == 1 else label
    return (name, one) if isinstance(name, str) and type(one) is int and 0 <= one < len(wnids()) else None
