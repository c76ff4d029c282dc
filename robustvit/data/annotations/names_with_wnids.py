"""Labels that images of ImageNet carry in their names: `ILSVRC2012_val_00000001_n01751748.JPEG`, as the Hugging Face mirror names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from robustvit.data.annotations.wnids import class_indices
from robustvit.errors import DataUnreadable, few, nearest

_WITH_WNID = re.compile(r"(.+)_(n\d{8})")


def without_wnid(stem: str) -> str:
    """A file name without ending and without the wnid that mirrors append to it: the name that the image has everywhere else."""
    match = _WITH_WNID.fullmatch(stem)
    return match.group(1) if match else stem


def labels_in_names(place: Path, stems: Sequence[str]) -> list[int] | None:
    """The labels (0 … 999, wnids sorted) that all names end in, or None where no name ends in a wnid.

    Raises DataUnreadable, with counts, where only some names do, or where a wnid is none of the thousand.
    """
    matches = [_WITH_WNID.fullmatch(stem) for stem in stems]
    bare = [stem for stem, match in zip(stems, matches, strict=True) if match is None]
    if len(bare) == len(stems):
        return None
    if bare:
        raise DataUnreadable(
            f"data 'imagenet': {len(stems) - len(bare):,} of the {len(stems):,} images in {place} carry their wnid at the end of their "
            f"names and {len(bare):,} do not: {few(bare)}. Keep the two apart."
        )
    named = [match.group(2) for match in matches if match is not None]
    unknown = sorted(set(named) - class_indices().keys())
    if unknown:
        raise DataUnreadable(
            f"data 'imagenet': {len(unknown):,} wnids in the names of images in {place} are none of the thousand: {few(unknown)}."
            f"{nearest(unknown[0], class_indices())}"
        )
    return [class_indices()[wnid] for wnid in named]


def refuse_misplaced(place: Path, paths: Sequence[str]) -> None:
    """Raises DataUnreadable where an image lies in the folder of one wnid and carries another in its name. paths: `<wnid>/<stem>`."""
    wrong = []
    for path in paths:
        match = _WITH_WNID.fullmatch(path.rpartition("/")[2])
        if match is not None and match.group(2) != path.partition("/")[0]:
            wrong.append(path)
    if wrong:
        raise DataUnreadable(
            f"data 'imagenet': {len(wrong):,} images in {place} lie in folders of other classes than they name: {few(wrong)}."
        )
