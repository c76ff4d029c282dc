"""Reads ImageNet-X: what people saw that sets a validation image apart from typical images of its class, sixteen factors of variation."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustvit.data.annotations.names_with_wnids import without_wnid
from robustvit.data.annotations.validation_labels import label_folders
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataMissing, DataUnreadable, few

FACTORS = (
    "pose", "background", "pattern", "color", "smaller", "shape", "partial_view", "subcategory", "texture", "larger", "darker",
    "object_blocking", "person_blocking", "style", "brighter", "multiple_objects",
)  # fmt: skip
PROTOTYPES = "prototypical_paths.csv"
URL = "https://github.com/facebookresearch/imagenetx"
UNKNOWN = -1  # of images that nobody annotated


def find_factors(place: Path, stems: Sequence[str], labels: Sequence[int], which: str) -> dict[str, np.ndarray]:
    """The factors of the images in `place`, by their file names without ending: for each factor `fact_<factor>`, (N,) int64, 1 or 0.

    which: `top`, the one factor that is most prominent, or `multi`, all that were selected. −1 in every column where an image is not
    annotated, or is one of the prototypes of its class, which the authors leave out. From imagenet_x_val_<which>_factor.jsonl with
    prototypical_paths.csv beside it, searched in `place`, up to four folders above, and in an installed package imagenet-x, which is
    not imported. Raises DataMissing where there is none, DataUnreadable for one that is not whole or gives an image another class.
    """
    path = _find(place, f"imagenet_x_val_{which}_factor.jsonl")
    prototypes = _prototypes(path.parent / PROTOTYPES)
    rows = {name: row for name, row in _rows(path).items() if name not in prototypes}
    names = [without_wnid(stem) for stem in stems]
    other = [name for name, label in zip(names, labels, strict=True) if name in rows and rows[name]["class"] != label]
    if other:
        raise DataUnreadable(f"{path} gives {len(other):,} images another class than their label: {few(other)}.")
    unknown = dict.fromkeys(FACTORS, UNKNOWN)
    found = [rows.get(name, unknown) for name in names]
    return {f"fact_{factor}": np.array([row[factor] for row in found], dtype=np.int64) for factor in FACTORS}


def _find(place: Path, name: str) -> Path:
    package = importlib.util.find_spec("imagenet_x")
    installed = [Path(inner) / "annotations" for inner in (package.submodule_search_locations or ())] if package is not None else []
    path = next((folder / name for folder in (*label_folders(place), *installed) if (folder / name).is_file()), None)
    if path is None:
        raise DataMissing(
            f"data 'imagenet': factors need {name} and {PROTOTYPES} of ImageNet-X ({URL}, CC BY-NC 4.0) beside the images in {place} or "
            "above, or the package: python -m pip install imagenet-x."
        )
    return path


def _rows(path: Path) -> dict[str, Mapping[str, Any]]:
    rows = [_row(line) for line in read_text(path).splitlines() if line.strip()]
    wrong = [number for number, row in enumerate(rows, start=1) if row is None]
    found = {row["file_name"].rpartition(".")[0]: row for row in rows if row is not None}
    if wrong or len(found) != len(rows):
        reason = f"the first is row {wrong[0]}" if wrong else "an image occurs twice"
        raise DataUnreadable(f"{path}: its rows must each give a file_name, a class and the sixteen factors as 0 or 1; {reason}.")
    return found


def _row(line: str) -> Mapping[str, Any] | None:
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or type(row.get("class")) is not int:
        return None
    return row if all(type(row.get(factor)) is int and row[factor] in (0, 1) for factor in FACTORS) else None


def _prototypes(path: Path) -> set[str]:
    if not path.is_file():
        raise DataMissing(
            f"data 'imagenet': {path} is missing: the images of ImageNet-X that are typical of their class, which it leaves out."
        )
    return {row[0].rpartition(".")[0] for row in csv.reader(read_text(path).splitlines()[1:]) if row}
