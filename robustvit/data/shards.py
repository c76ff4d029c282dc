"""Images in tar files: webdataset shards, and tars of class folders.

timm's reader of webdataset goes through shards in sequence only; samples here are read in the order of their ids' hashes. So the
members of local shards are indexed once, by name and offset in the tar, and read from there. Nothing is unpacked.
"""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from robustvit.data.annotations.wnids import readings
from robustvit.data.formats.class_order import ClassOrder, Order, class_order
from robustvit.data.formats.decode import decode
from robustvit.data.formats.image_dataset import ImageDataset, image_dataset
from robustvit.data.formats.listing import EXTENSIONS, need
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, few
from robustvit.primitives.batch import Traits
from robustvit.spec.registry import dataset

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Place(NamedTuple):
    """The position of an encoded image: its tar, and the bytes in it."""

    shard: Path
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class TarMembers:
    """Reads images from tar files without unpacking them. ids: what messages call them."""

    ids: tuple[str, ...]
    places: tuple[Place, ...]

    def __call__(self, index: int) -> np.ndarray:
        """The image. Raises DataUnreadable where it cannot be read."""
        name, place = self.ids[index], self.places[index]
        try:
            with place.shard.open("rb") as file:
                file.seek(place.start)
                content = file.read(place.size)
        except OSError as error:
            raise DataUnreadable(f"{name}: {error.strerror}") from error
        return decode(content, name)


@dataset(
    source="your own shards",
    licence="set by their owner",
    rules="Tar files on this machine: `--data wds/FOLDER`, `--data wds/FOLDER/val-{000..063}.tar` or a pattern with *.",
)
def wds(root: Path | None, *, label: str = "cls", classes: int | str | None = None, order: Order | None = None) -> ImageDataset[TarMembers]:
    """Webdataset shards (`KEY.jpg` and `KEY.cls` side by side), or tars with one folder for each class.

    root: a folder of .tar files, one such file, or a pattern. label: `cls`, or the field of `KEY.json` that holds the class index. Where
    no sample has a label of its own, its folder is its class, or its tar where it lies in no folder; classes are then numbered by their
    names, in the `order` that is given where it matters, `text` or `natural` (see `class_order`). classes: a class map that numbers them,
    or, where indices are given, their number (default, the largest plus one). Ids are `wds/<tar>/<key>`.
    Raises BadParameter, DataMissing, DataUnreadable.
    """
    found = [sample for shard in _shards(_need_pattern(root)) for sample in _samples(shard, label)]
    if not found:
        raise DataMissing(f"data 'wds': no images in the tars of {root}. Images end in {', '.join(EXTENSIONS)}.")
    labels, numbered = _labels(found, label, order, classes, root)
    names = numbered.names
    ids = tuple(f"wds/{sample.place.shard.stem}/{sample.key}" for sample in found)
    read = TarMembers(ids, tuple(sample.place for sample in found))
    marks = (sample.place.size for sample in found)
    return image_dataset(
        "wds", read, ids=ids, labels=labels, classes=names, readings=readings(names), marks=marks,
        traits=Traits(ambiguous_order=numbered.ambiguous),
    )  # fmt: skip


def _need_pattern(root: Path | None) -> Path:
    """As `need`, except that a pattern need not exist as a file."""
    return root if root is not None and re.search(r"[*{]", root.name) else need(root, "wds")


class _Found(NamedTuple):
    """An image of a shard: its key, its position, and its class index as text, where it has one."""

    key: str
    place: Place
    label: str | None


@dataclass
class _Parts:
    image: tarfile.TarInfo | None = None
    texts: dict[str, bytes] = field(default_factory=dict)


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


def _samples(shard: Path, label: str) -> Iterator[_Found]:
    """The images of one tar, in its order, with their labels."""
    try:
        with tarfile.open(shard, "r:") as tar:
            parts = _by_key(tar)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataUnreadable(f"{shard} is no whole, uncompressed tar file: {error}.") from error
    for key, part in parts.items():
        if part.image is not None:
            yield _Found(key, Place(shard, part.image.offset_data, part.image.size), _class_index(part, label, f"{shard}: {key}"))


def _by_key(tar: tarfile.TarFile) -> dict[str, _Parts]:
    """Members by key: their path up to the first dot of its last name, as webdataset has it."""
    found: dict[str, _Parts] = {}
    for member in tar:
        folder, slash, last = member.name.rpartition("/")
        stem, _, ending = last.partition(".")
        if not member.isreg() or not stem:
            continue
        part = found.setdefault(f"{folder}{slash}{stem}".removeprefix("./"), _Parts())
        if last.lower().endswith(EXTENSIONS):
            part.image = part.image or member
        elif ending in ("cls", "json"):
            content = tar.extractfile(member)
            part.texts[ending] = content.read() if content else b""
    return found


def _class_index(part: _Parts, label: str, what: str) -> str | None:
    """The class index of a sample as text, or None where it has none."""
    if label == "cls":
        return part.texts["cls"].decode("utf-8-sig", "replace").strip() if "cls" in part.texts else None
    try:
        return str(json.loads(part.texts["json"])[label])
    except (KeyError, ValueError, TypeError) as error:
        raise DataUnreadable(f"{what}: its .json must hold a class index under '{label}'.") from error


def _labels(
    found: list[_Found], label: str, order: Order | None, classes: int | str | None, place: Path | None
) -> tuple[list[int], ClassOrder]:
    """The label of each sample, and the classes that they index."""
    if all(sample.label is None for sample in found):
        folders = [PurePosixPath(sample.key).parent.name or sample.place.shard.stem for sample in found]
        class_map = classes if isinstance(classes, str) and not classes.isdecimal() else None
        numbered = class_order("wds", sorted(set(folders)), order, class_map, _folder(place))
        index = {name: i for i, name in enumerate(numbered.names)}
        return [index[name] for name in folders], numbered
    return _indices(found, label, order, classes)


def _indices(found: list[_Found], label: str, order: Order | None, classes: int | str | None) -> tuple[list[int], ClassOrder]:
    """The class indices that samples have of their own, and names that are the numbers."""
    if order is not None:
        raise BadParameter(f"data 'wds': order={order} sorts the names of folders; these samples have class indices. Leave it out.")
    if (isinstance(classes, str) and not classes.isdecimal()) or classes in (0, "0"):
        raise BadParameter(f"data 'wds': classes is '{classes}'; samples with class indices take the number of classes, from 1.")
    wrong = [sample.key for sample in found if sample.label is None or not sample.label.isdecimal()]
    if wrong:
        raise DataUnreadable(f"data 'wds': {len(wrong)} of {len(found)} samples have no class index under '{label}': {few(wrong)}.")
    labels = [int(sample.label or "") for sample in found]
    count = int(classes or max(labels) + 1)
    if max(labels) >= count:
        raise DataUnreadable(f"data 'wds': the largest class index is {max(labels)}; classes = {count} allows 0 … {count - 1}.")
    return labels, ClassOrder([str(i) for i in range(count)])


def _folder(place: Path | None) -> Path:
    """The folder in which a class map may lie: that of the tars."""
    if place is None:
        return Path()
    return place if place.is_dir() else place.parent
