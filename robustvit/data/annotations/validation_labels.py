"""Reads the labels of ImageNet's validation images that lie flat in one folder, from the files that are distributed with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from robustvit.data.annotations.label_tables import (
    class_indices_of,
    image_number,
    read_csv_table,
    read_space_table,
    refuse_holes,
    text_lines,
)
from robustvit.data.annotations.names_with_wnids import labels_in_names
from robustvit.errors import DataMissing, DataUnreadable

CSV = "LOC_val_solution.csv"
LINES = ("val_labels.txt", "synset_labels.txt", "imagenet_2012_validation_synset_labels.txt")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
CAFFE = "val.txt"
OWN_CSV = "val_labels.csv"
_ABOVE = 4  # Kaggle unpacks its table beside ILSVRC, four folders above ILSVRC/Data/CLS-LOC/val


def find_labels(place: Path, stems: Sequence[str]) -> list[int]:
    """The labels (0 … 999, wnids sorted) of the images in `place`, by their file names without ending.

    From the names, where they end in a wnid; else from a file in `place` or the folders above it, in this order: Kaggle's
    LOC_val_solution.csv; one wnid a line in the order of the images' numbers (val_labels.txt, synset_labels.txt,
    imagenet_2012_validation_synset_labels.txt); the development kit's ILSVRC2012_validation_ground_truth.txt, whose numbers count the
    classes in an order of its own, which its meta.mat gives. Where none of these is found: Caffe's val.txt, a class index or wnid for each
    file name, with the order of synsets.txt where that lies beside it, or val_labels.csv with rows ImageId,Class.
    Raises DataMissing where there is none, DataUnreadable, with counts, for one that cannot be right and for images that it does not label.
    """
    named = labels_in_names(place, stems)
    if named is not None:
        return named
    for folder in label_folders(place):
        if (folder / CSV).is_file():
            return read_csv_table(folder / CSV).labels(stems)
        for name in LINES:
            if (folder / name).is_file():
                return _by_number(folder / name, text_lines(folder / name), stems)
        for kit in (folder, *sorted(folder.glob("ILSVRC2012_devkit*/data"))):
            if (kit / TRUTH).is_file():
                return _by_number(kit / TRUTH, _truth(kit / TRUTH, kit / META), stems)
    for folder in label_folders(place):  # last, because other data sets have files of these names
        if (folder / CAFFE).is_file():
            return read_space_table(folder / CAFFE).labels(stems)
        if (folder / OWN_CSV).is_file():
            return read_csv_table(folder / OWN_CSV).labels(stems)
    raise DataMissing(
        f"data 'imagenet': the images in {place} lie flat and no file gives their labels. Put {CSV}, {LINES[0]} (one wnid a line), "
        f"{CAFFE} (a file name and a class index a line) or the development kit's {TRUTH} with {META} beside them, or sort them into "
        "folders named by wnid."
    )


def label_folders(place: Path) -> tuple[Path, ...]:
    """The folders in which labels of the images in `place` are searched: itself, and up to four above."""
    return (place, *place.absolute().parents[:_ABOVE])


def _by_number(path: Path, names: list[str], stems: Sequence[str]) -> list[int]:
    """Labels from lines: line i is the wnid of ILSVRC2012_val_0000000i."""
    table = class_indices_of(path, names)
    numbers = [image_number(stem) for stem in stems]
    unlabelled = [stem for stem, number in zip(stems, numbers, strict=True) if not 1 <= number <= len(table)]
    refuse_holes(f"{path} has {len(table):,} lines, for ILSVRC2012_val_00000001 to ILSVRC2012_val_{len(table):08d}", unlabelled, stems)
    return [table[number - 1] for number in numbers]


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
        return [wnid_of[int(line)] for line in text_lines(path)]
    except (OSError, KeyError, ValueError, IndexError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataUnreadable(f"{path} and {meta} do not give the labels of the validation images: {error!r}.") from error
