"""Images in tar files: webdataset shards, and tars of class folders.

timm's reader of webdataset goes through shards in sequence only; samples here are read in the order of their ids' hashes. So the
members of local shards are indexed once, by name and offset in the tar, and read from there. Nothing is unpacked.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.class_order import ClassOrder, Order, class_order
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset, numbered_classes
from robustvit.data.formats.left_out import LeftOut
from robustvit.data.formats.listing import EXTENSIONS, need
from robustvit.data.formats.tars import TarImage, TarMembers, list_tar
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_DIGITS = 12  # of a class index; no data has so many classes
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataset(
    source="your own shards",
    licence="set by their owner",
    rules="Tar files on this machine: `--data wds/FOLDER`, `--data wds/FOLDER/val-{000..063}.tar` or a pattern with *.",
)
def wds(
    root: Path | None, *, label: str = "cls", image: str | None = None, classes: int | str | None = None, order: Order | None = None
) -> ImageDataset[TarMembers]:
    """Webdataset shards (`KEY.jpg` and `KEY.cls` side by side), or tars with one folder for each class.

    root: a folder of .tar files, one such file, or a pattern. label: `cls`, or the field of `KEY.json` that holds the class index. Where
    no image of a tar has one of these beside it, its folder is its class, or its tar where it lies in no folder; classes are then numbered
    by their names, in the `order` that is given where it matters, `text` or `natural` (see `class_order`). classes: a class map that
    numbers them, or, where indices are given, their number (default, the largest plus one). KEY ends at the first dot, as webdataset has
    it; the images of class folders are told apart by their whole names without the ending. image: what follows the keys of the images,
    where keys have several. Ids are `wds/<tar>/<key>`.
    Raises BadParameter, DataMissing, DataUnreadable: among others where a key belongs to several images.
    """
    shards = [list_tar(shard, image) for shard in _shards(_need_pattern(root))]
    found = [_Found(one, _class_index(one, label)) for shard in shards for one in shard.images]
    if not found:
        raise DataMissing(f"data 'wds': no images in the tars of {root}. Images end in {', '.join(EXTENSIONS)}.")
    labels, numbered = _labels(found, label, order, classes, root)
    names = numbered.names
    ids = tuple(f"wds/{one.place.shard.stem}/{one.key}" for one, _ in found)
    read = TarMembers(ids, tuple(one.place for one, _ in found))
    return image_dataset(
        "wds", read, ids=ids, labels=labels, classes=names, readings=readings(names), marks=(one.place.size for one, _ in found),
        traits=Traits(ambiguous_order=numbered.ambiguous), ignored=sum((shard.ignored for shard in shards), LeftOut()),
    )  # fmt: skip


def _need_pattern(root: Path | None) -> Path:
    """As `need`, except that a pattern need not exist as a file."""
    return root if root is not None and re.search(r"[*{]", root.name) else need(root, "wds")


class _Found(NamedTuple):
    """An image of a shard, with its class index as text, where it has one."""

    image: TarImage
    label: str | None


def _shards(place: Path) -> list[Path]:
    if place.is_dir():
        shards = sorted(place.glob("*.tar"))
    elif place.is_file():
        shards = [place]
    else:
        shards = [Path(path) for name in _numbered(str(place)) for path in (sorted(glob.glob(name)) if "*" in name else [name])]
    if not shards:
        raise DataMissing(f"data 'wds': {place} holds no .tar files.")
    absent = [str(shard) for shard in shards if not shard.is_file()]
    if absent:
        raise DataMissing(f"data 'wds': {len(absent)} of {len(shards)} shards do not exist: {few(absent)}.")
    return shards


def _numbered(pattern: str) -> Iterator[str]:
    """`val-{000..002}.tar` → val-000.tar, val-001.tar, val-002.tar."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _numbered(f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}")


def _class_index(image: TarImage, label: str) -> str | None:
    """The class index of a sample as text, or None where it has none."""
    if label == "cls":
        return image.texts["cls"].decode("utf-8-sig", "replace").strip() if "cls" in image.texts else None
    try:
        return str(json.loads(image.texts["json"])[label])
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        raise DataUnreadable(f"{image.place.shard}: {image.key}: its .json must hold a class index under '{label}'.") from error


def _labels(
    found: list[_Found], label: str, order: Order | None, classes: int | str | None, place: Path | None
) -> tuple[list[int], ClassOrder]:
    """The label of each sample, and the classes that they index."""
    if all(sample.label is None for sample in found):
        folders = [PurePosixPath(one.key).parent.name or one.place.shard.stem for one, _ in found]
        class_map = classes if isinstance(classes, str) and not classes.isdecimal() else None
        numbered = class_order("wds", sorted(set(folders)), order, class_map, _folder(place))
        index = {name: i for i, name in enumerate(numbered.names)}
        return [index[name] for name in folders], numbered
    return _indices(found, label, order, classes)


def _indices(found: list[_Found], label: str, order: Order | None, classes: int | str | None) -> tuple[list[int], ClassOrder]:
    """The class indices that samples have of their own, and names that are the numbers."""
    if order is not None:
        raise BadParameter(f"data 'wds': order={order} sorts the names of folders; these samples have class indices. Leave it out.")
    if (classes is not None and not _is_index(str(classes))) or classes in (0, "0"):
        raise BadParameter(f"data 'wds': classes is '{classes}'; samples with class indices take the number of classes, from 1.")
    wrong = [sample.image.key for sample in found if sample.label is None or not _is_index(sample.label)]
    if wrong:
        raise DataUnreadable(f"data 'wds': {len(wrong)} of {len(found)} samples have no class index under '{label}': {few(wrong)}.")
    labels = [int(sample.label or "") for sample in found]
    count = int(classes or max(labels) + 1)
    if max(labels) >= count:
        raise DataUnreadable(f"data 'wds': the largest class index is {max(labels)}; classes = {count} allows 0 … {count - 1}.")
    return labels, ClassOrder(numbered_classes(count, f"data 'wds': under '{label}'"))


def _is_index(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def _folder(place: Path | None) -> Path:
    """The folder in which a class map may lie: that of the tars."""
    if place is None:
        return Path()
    return place if place.is_dir() else place.parent
