"""Tables that label ImageNet's images by name: Kaggle's CSV, and Caffe's `val.txt` with a class index on each line."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from robustvit.data.annotations.wnids import class_indices, wnids
from robustvit.data.formats.listing import EXTENSIONS, read_text
from robustvit.errors import DataUnreadable, few, nearest

SYNSETS = "synsets.txt"  # Caffe's: the wnid of each class index, a line each
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})")
_ANSWER = re.compile(r"n\d{8}|\d+")


class LabelTable(NamedTuple):
    """The rows of a table: file names without folder and ending, and for each a wnid or a class index as text."""

    path: Path
    names: list[str]
    answers: list[str]

    def labels(self, stems: Sequence[str]) -> list[int]:
        """The labels of these images. Raises DataUnreadable, with counts, for classes that cannot be right and images without a row."""
        repeated = [stem for stem, count in Counter(self.names).items() if count > 1]
        if repeated:
            raise DataUnreadable(f"{self.path} labels {len(repeated)} images more than once: {few(repeated)}.")
        table = dict(zip(self.names, self._indices(), strict=True))
        refuse_holes(f"{self.path} has {len(self.names):,} rows", [stem for stem in stems if stem not in table], stems)
        return [table[stem] for stem in stems]

    def _indices(self) -> list[int]:
        if not self.answers or not all(answer.isdecimal() for answer in self.answers):
            return class_indices_of(self.path, self.answers)
        numbers = [int(answer) for answer in self.answers]
        outside = [number for number in numbers if number >= len(wnids())]
        if outside or (len(numbers) > 1 and numbers == [image_number(name) for name in self.names]):
            raise DataUnreadable(
                f"{self.path}: its numbers, {min(numbers)} to {max(numbers)}, are not class indices 0 to {len(wnids()) - 1} of the sorted "
                "wnids. Running numbers, as in Kaggle's ImageSets/CLS-LOC/val.txt, and the development kit's own are none."
            )
        order = _synsets(self.path.parent / SYNSETS)
        return [class_indices()[order[number]] for number in numbers]


def read_csv_table(path: Path) -> LabelTable:
    """Rows ImageId,PredictionString (a wnid and boxes, as Kaggle has it) or ImageId,Class (a wnid or a class index), with a header or none.

    Raises DataUnreadable for rows of another number of columns.
    """
    rows = [row for row in csv.reader(text_lines(path)) if row]
    if rows and not (len(rows[0]) == 2 and _ANSWER.fullmatch(_first_word(rows[0][1]))):
        rows = rows[1:]
    return _table(path, rows, "ImageId,PredictionString or ImageId,Class")


def read_space_table(path: Path) -> LabelTable:
    """Lines `ILSVRC2012_val_00000001.JPEG 65`: a path, and a class index or a wnid. Raises DataUnreadable for other lines."""
    return _table(path, [line.rsplit(None, 1) for line in text_lines(path) if line], "a file name and a class")


def class_indices_of(path: Path, names: Iterable[str]) -> list[int]:
    """The class indices of wnids that were read in `path`. Raises DataUnreadable, with counts, for names that are none of the thousand."""
    index, entries = class_indices(), list(names)
    wrong = [line for line, name in enumerate(entries, start=1) if name not in index]
    if wrong:
        first = entries[wrong[0] - 1]
        raise DataUnreadable(
            f"{path}: {len(wrong):,} of {len(entries):,} entries are not ImageNet wnids like n01440764; the first, entry {wrong[0]}, is "
            f"'{first}'.{nearest(first, index)}"
        )
    return [index[name] for name in entries]


def image_number(stem: str) -> int:
    """The number in a file name like ILSVRC2012_val_00000001; 0 for any other name."""
    match = _NUMBERED.match(stem)
    return int(match.group(1)) if match else 0


def refuse_holes(what: str, unlabelled: Sequence[str], stems: Sequence[str]) -> None:
    """Raises DataUnreadable where images have no label. what: the table, and what it has."""
    if unlabelled:
        raise DataUnreadable(f"{what}; {len(unlabelled):,} of the {len(stems):,} images have no label: {few(unlabelled)}.")


def text_lines(path: Path) -> list[str]:
    """The lines of a text file, without the empty ones at its end."""
    return [line.strip() for line in read_text(path).rstrip().splitlines()]


def _table(path: Path, rows: Sequence[Sequence[str]], what: str) -> LabelTable:
    short = [row for row in rows if len(row) != 2]
    if short:
        raise DataUnreadable(f"{path}: {len(short)} rows are not {what}; the first is {list(short[0])}.")
    return LabelTable(path, [_stem(row[0]) for row in rows], [_first_word(row[1]) for row in rows])


def _stem(name: str) -> str:
    last = name.strip().replace("\\", "/").rpartition("/")[2]
    return last.rpartition(".")[0] if last.lower().endswith(EXTENSIONS) else last


def _first_word(text: str) -> str:
    return text.split()[0] if text.split() else text


def _synsets(path: Path) -> Sequence[str]:
    """The wnid of each class index: the sorted ones, or those of a synsets.txt beside the table."""
    if not path.is_file():
        return wnids()
    order = [_first_word(line) for line in text_lines(path)]
    if sorted(order) != sorted(wnids()):
        raise DataUnreadable(f"{path} is not a list of ImageNet's {len(wnids())} wnids, one a line; it gives the order of class indices.")
    return order
