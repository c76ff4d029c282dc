"""Lists the images in tar files and reads them from there; nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustvit.data.formats.decode import decode
from robustvit.data.formats.files import last_written
from robustvit.data.formats.left_out import LeftOut, ending_of, is_hidden_image
from robustvit.data.formats.listing import EXTENSIONS
from robustvit.errors import DataUnreadable, few
from robustvit.spec.given import why_not_regular
from robustvit.spec.grouping import grouped

_LABELS = (".cls", ".json")  # endings of the members that may hold a label


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
        return self.decode(index, self.content(index))

    def content(self, index: int) -> bytes:
        """The bytes of an image. Raises DataUnreadable where its tar cannot be read."""
        place = self.places[index]
        try:
            with place.shard.open("rb") as file:
                file.seek(place.start)
                return file.read(place.size)
        except OSError as error:
            raise DataUnreadable(f"{self.ids[index]}: {error.strerror}") from error

    def decode(self, index: int, content: bytes) -> np.ndarray:
        """Decodes the bytes of an image. Raises DataUnreadable for bytes that are none."""
        return decode(content, self.ids[index])

    def stamp(self, index: int) -> int:
        """When the tar of an image was last written, in nanoseconds; −1 where it is gone."""
        return last_written(self.places[index].shard)


class TarImage(NamedTuple):
    """An image of a tar: its key, its position, and the contents of the .cls and .json beside it, by ending."""

    key: str
    place: Place
    texts: Mapping[str, bytes]


class TarListing(NamedTuple):
    """The images of a tar, in its order, and what of it is not read."""

    images: list[TarImage]
    ignored: LeftOut


def list_tar(shard: Path, image: str | None = None) -> TarListing:
    """Lists the images in an uncompressed tar, each by its key.

    Where a .cls or .json lies beside any image, the tar is a webdataset: a key is the path of a member up to the first dot of its last
    name. Otherwise it is one of class folders, where images are told apart by their whole paths without the ending, so that `cat.0.png`
    and `cat.1.png` are two. image: what follows the keys of the images, where keys have several, such as `png` beside `seg.png`.
    Raises DataUnreadable for a file that is no such tar and, with names, for keys with several images or labels.
    """
    if why := why_not_regular(shard):
        raise DataUnreadable(f"{shard} {why}; it is no tar file.")
    try:
        with tarfile.open(shard, "r:") as tar:
            members = _members(tar)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataUnreadable(f"{shard} is no whole, uncompressed tar file: {error}.") from error
    beside = {_at_first_dot(name).stem for name in members.others if name.endswith(_LABELS)}
    labelled = any(_at_first_dot(one.name).stem in beside for one in members.images)
    split = _at_first_dot if labelled else _at_last_dot
    images = grouped((split(one.name).stem, one) for one in members.images if image in (None, split(one.name).ending.lower()))
    _refuse_repeats(shard, {key: [one.name for one in some] for key, some in images.items()}, "first dot" if labelled else "last dot")
    texts = {(key, ending): some for key, by_ending in members.texts.items() for ending, some in by_ending.items()}
    _refuse_repeats(shard, {key: [f"{key}.{ending}"] * len(some) for (key, ending), some in texts.items()}, "first dot")
    found = [
        TarImage(key, Place(shard, one.offset_data, one.size), {name: some[0] for name, some in members.texts.get(key, {}).items()})
        for key, (one,) in images.items()
    ]
    return TarListing(found, _left_out(members, images, labelled))


@dataclass
class _Members:
    """The members of a tar: encoded images, the contents of .cls and .json by key and ending, and the names of all other files."""

    images: list[tarfile.TarInfo] = field(default_factory=list)
    texts: dict[str, dict[str, list[bytes]]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    links: int = 0
    hidden: int = 0


def _members(tar: tarfile.TarFile) -> _Members:
    found = _Members()
    for member in tar:
        last = member.name.rpartition("/")[2].lower()
        if last.startswith("."):
            found.hidden += is_hidden_image(last, EXTENSIONS)
        elif not member.isreg():
            found.links += member.issym() or member.islnk()
        elif last.endswith(EXTENSIONS):
            found.images.append(member)
        else:
            found.others.append(member.name)
            key, ending = _at_first_dot(member.name)
            if f".{ending}" in _LABELS:
                content = tar.extractfile(member)
                found.texts.setdefault(key, {}).setdefault(ending, []).append(content.read() if content else b"")
    return found


class _Name(NamedTuple):
    stem: str
    ending: str


def _at_first_dot(path: str) -> _Name:
    """A member's path split at the first dot of its last name."""
    folder, slash, last = path.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return _Name(f"{folder}{slash}{stem}", ending)


def _at_last_dot(path: str) -> _Name:
    """A member's path split at the last dot of its last name."""
    folder, slash, last = path.removeprefix("./").rpartition("/")
    stem, dot, ending = last.rpartition(".")
    return _Name(f"{folder}{slash}{stem if dot else ending}", ending if dot else "")


def _refuse_repeats(shard: Path, members: Mapping[str, Sequence[str]], end: str) -> None:
    """Raises DataUnreadable for keys that several members have, of which only one would be read. end: where a key ends."""
    several = [" = ".join(names) for names in members.values() if len(names) > 1]
    if several:
        raise DataUnreadable(
            f"{shard}: {len(several)} of {len(members)} keys belong to several members: {few(several)}. A key is a name up to its {end}. "
            "Rename the members, or choose the image of each key by what follows it, like image=png."
        )


def _left_out(members: _Members, images: Mapping[str, object], labelled: bool) -> LeftOut:
    """What is not read: in a webdataset keys without an image, by the ending of another member; of class folders other files in them."""
    if labelled:
        absent = grouped(one for one in map(_at_first_dot, members.others) if one.stem not in images)
        endings = [min((ending_of(f"{key}.{one}".rstrip(".")) for one in some), key=_LABELS.__contains__) for key, some in absent.items()]
    else:
        flat = any("/" not in key for key in images)
        endings = [ending_of(name) for name in members.others if flat or "/" in name.removeprefix("./")]
    return LeftOut(Counter(endings), links=members.links, hidden=members.hidden)
