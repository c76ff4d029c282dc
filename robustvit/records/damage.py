"""Which files of a cell are damaged, and what of them a run need not compute again."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Sequence
from pathlib import Path

from robustvit.errors import StoreDamaged, StoreError
from robustvit.records.compacted.cell_files import compacted_of
from robustvit.records.compacted.compacted_file import CompactedFile
from robustvit.records.images import is_whole_gallery, kept_images, were_removed
from robustvit.records.records_file import RowFile


class ImagesRequired(enum.Enum):
    """Whether rows need the images kept beside them: no, whole ones unless they were removed on purpose, or yes, removed or not."""

    NO, UNLESS_REMOVED, YES = range(3)


def damaged_files(files: Sequence[RowFile], galleries: Sequence[Path], images: ImagesRequired) -> list[Path]:
    """The damaged ones among the files of a cell and its galleries; a damaged gallery takes the first rows with it.

    images: rows whose images were kept and are not as required count, too. Raises StoreDamaged where the table of samples of a compacted
    file is: no run makes it again, and the rows are whole.
    """
    lost = _lost_galleries(galleries)
    return list(dict.fromkeys((*lost, *(file.path for file in _lost(files, bool(lost), images)))))


def whole_pieces(files: Sequence[RowFile], galleries: Sequence[Path], images: ImagesRequired) -> list[RowFile]:
    """The pieces of whole compacted files that stand beside lost ones, because their images or the gallery are lost."""
    lost = _lost(files, bool(_lost_galleries(galleries)), images)
    partly = {file.path for file in lost if (compacted := compacted_of(file)) is not None and _is_whole(compacted)}
    return [file for file in files if file.path in partly and file not in lost]


def _lost_galleries(galleries: Sequence[Path]) -> list[Path]:
    return [] if any(map(is_whole_gallery, galleries)) else list(galleries)


def _lost(files: Sequence[RowFile], first_too: bool, images: ImagesRequired) -> list[RowFile]:
    whole: dict[Path, bool] = {}
    for file in files:
        if file.path not in whole:
            whole[file.path] = _is_whole(compacted_of(file) or file)
    return [
        file for file in files if not whole[file.path] or (first_too and file.shard == file.start == 0) or not _has_images(file, images)
    ]


def _is_whole(file: RowFile | CompactedFile) -> bool:
    if isinstance(file, CompactedFile):
        try:
            meta = file.meta
        except StoreDamaged:
            return False
        assert meta is not None
        file.table()  # raises
    with contextlib.suppress(StoreDamaged):
        file.check()
        return True
    return False


def _has_images(file: RowFile, required: ImagesRequired) -> bool:
    """Whether the images that were kept of its rows are as required."""
    if required is ImagesRequired.NO or (required is ImagesRequired.UNLESS_REMOVED and were_removed(file)):
        return True
    with contextlib.suppress(StoreError):
        if "images" in file.about():
            kept_images(file)
        return True
    return False
