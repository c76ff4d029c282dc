"""Reads the labels of ImageNet's validation images that lie flat in one folder, from the files that are distributed with them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from robustvit.data.annotations.wnids import class_indices
from robustvit.data.formats.listing import read_text
from robustvit.errors import DataMissing, DataUnreadable, few, nearest

CSV = "LOC_val_solution.csv"
LINES = ("val_labels.txt", "synset_labels.txt", "imagenet_2012_validation_synset_labels.txt")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})")
_ABOVE = 4  # Kaggle unpacks its table beside ILSVRC, four folders above ILSVRC/Data/CLS-LOC/val


def find_labels(place: Path, stems: Sequence[str]) -> list[int]:
    """The labels (0 … 999, wnids sorted) of the images in `place`, by their file names without ending.

    Searched in `place` and the folders above it, in this order: Kaggle's LOC_val_solution.csv; one wnid a line in the order of the
    images' numbers (val_labels.txt, synset_labels.txt, imagenet_2012_validation_synset_labels.txt); the development kit's
    ILSVRC2012_validation_ground_truth.txt, whose numbers count the classes in an order of its own, which its meta.mat gives.
    Raises DataMissing where there is none, DataUnreadable, with counts, for one that cannot be right and for images that it does not label.
    """
    for folder in label_folders(place):
        if (folder / CSV).is_file():
            return _by_name(folder / CSV, stems)
        for name in LINES:
            if (folder / name).is_file():
                return _by_number(folder / name, _lines(folder / name), stems)
        for kit in (folder, *sorted(folder.glob("ILSVRC2012_devkit*/data"))):
            if (kit / TRUTH).is_file():
                return _by_number(kit / TRUTH, _truth(kit / TRUTH, kit / META), stems)
    raise DataMissing(
        f"data 'imagenet': the images in {place} lie flat and no file gives their labels. Put {CSV}, {LINES[0]} (one wnid a line) or the "
        f"development kit's {TRUTH} with {META} beside them, or sort them into folders named by wnid."
    )


def label_folders(place: Path) -> tuple[Path, ...]:
    """The folders in which labels of the images in `place` are searched: itself, and up to four above."""
    return (place, *place.absolute().parents[:_ABOVE])


def _by_name(path: Path, stems: Sequence[str]) -> list[int]:
    """Labels from rows ImageId,PredictionString: a file name, and a wnid followed by boxes."""
    rows = list(csv.reader(_lines(path)[1:]))
    short = [row for row in rows if len(row) != 2]
    if short:
        raise DataUnreadable(f"{path}: {len(short)} rows are not ImageId,PredictionString; the first is {short[0]}.")
    repeated = [stem for stem, count in Counter(row[0] for row in rows).items() if count > 1]
    if repeated:
        raise DataUnreadable(f"{path} labels {len(repeated)} images more than once: {few(repeated)}.")
    table = dict(zip((row[0] for row in rows), _indices(path, (row[1].split(" ")[0] for row in rows)), strict=True))
    _refuse_holes(f"{path} has {len(rows):,} rows", [stem for stem in stems if stem not in table], stems)
    return [table[stem] for stem in stems]


def _by_number(path: Path, names: list[str], stems: Sequence[str]) -> list[int]:
    """Labels from lines: line i is the wnid of ILSVRC2012_val_0000000i."""
    table = _indices(path, names)
    numbers = [image_number(stem) for stem in stems]
    unlabelled = [stem for stem, number in zip(stems, numbers, strict=True) if not 1 <= number <= len(table)]
    _refuse_holes(f"{path} has {len(table):,} lines, for ILSVRC2012_val_00000001 to ILSVRC2012_val_{len(table):08d}", unlabelled, stems)
    return [table[number - 1] for number in numbers]


def image_number(stem: str) -> int:
    """The number in a file name like ILSVRC2012_val_00000001; 0 for any other name."""
    match = _NUMBERED.match(stem)
    return int(match.group(1)) if match else 0


def _refuse_holes(what: str, unlabelled: Sequence[str], stems: Sequence[str]) -> None:
    if unlabelled:
        raise DataUnreadable(f"{what}; {len(unlabelled):,} of the {len(stems):,} images have no label: {few(unlabelled)}.")


def _truth(path: Path, meta: Path) -> list[str]:
    """The wnids that the development kit's own numbers stand for."""
    if not meta.is_file():
        raise DataMissing(
            f"{path} counts the classes in an order of its own; the development kit's {META}, which gives it, must lie beside it. "
            f"Guessing that they are sorted would give almost every image a wrong label. {LINES[0]} with one wnid a line does without."
        )
    try:
        rows = loadmat(meta, squeeze_me=True)["synsets"]
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        return [wnid_of[int(line)] for line in _lines(path)]
    except (OSError, KeyError, ValueError, IndexError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataUnreadable(f"{path} and {meta} do not give the labels of the validation images: {error!r}.") from error


def _indices(path: Path, names: Iterable[str]) -> list[int]:
    index, entries = class_indices(), list(names)
    wrong = [line for line, name in enumerate(entries, start=1) if name not in index]
    if wrong:
        first = entries[wrong[0] - 1]
        raise DataUnreadable(
            f"{path}: {len(wrong):,} of {len(entries):,} entries are not ImageNet wnids like n01440764; the first, entry {wrong[0]}, is "
            f"'{first}'.{nearest(first, index)}"
        )
    return [index[name] for name in entries]


def _lines(path: Path) -> list[str]:
    """The lines of a text file, without the empty ones at its end."""
    return [line.strip() for line in read_text(path).rstrip().splitlines()]
