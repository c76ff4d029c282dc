"""Finds the folders of a data set and lists the image files in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from robustvit.data.formats.left_out import LeftOut, ending_of, is_hidden_image
from robustvit.errors import DataMissing, DataUnreadable, few
from robustvit.spec import registry
from robustvit.spec.data_address import default_places, folder_names
from robustvit.spec.given import why_not_small

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
_LARGEST_TEXT = 256 << 20  # bytes; tables of labels have a few million
_LEFTOVERS = (".", "__MACOSX", "__pycache__")  # how folders begin that no class is named like


class ImageFile(NamedTuple):
    """A file: its path below the folder that was listed, with `/` between names, and its size in bytes."""

    path: str
    size: int

    @property
    def without_ending(self) -> str:
        """The path without the ending of the file name, as text (see `as_text`)."""
        return as_text(self.path.rpartition(".")[0])

    @property
    def stem(self) -> str:
        """The file name without folders and ending, as text."""
        return self.without_ending.rpartition("/")[2]


class Listing(NamedTuple):
    """The image files below a folder, sorted by path, and what lies among them and is left out."""

    files: list[ImageFile]
    ignored: LeftOut = LeftOut()


def list_files(folder: Path, *, below: bool = True, endings: tuple[str, ...] = EXTENSIONS) -> Listing:
    """Lists the images in a folder and, where `below`, in the folders below it. Links to folders are followed at the top only.

    endings: of the file names that count as images.
    """
    found: list[ImageFile] = []
    left_out = _collect(folder, "", found, below, endings)
    return Listing(sorted(found), left_out)


def refuse_unusable(data: str, folder: Path, listing: Listing, *, what: str = "images", endings: tuple[str, ...] = EXTENSIONS) -> None:
    """Raises DataMissing where a listing has no files, DataUnreadable where some of them are empty. what: the files' name in messages."""
    if not listing.files:
        beside = f" (left out: {listing.ignored})" if listing.ignored else ""
        raise DataMissing(f"data '{data}': {folder} holds no {what}{beside}. {what.capitalize()} end in {', '.join(endings)}.")
    empty = [file.path for file in listing.files if file.size == 0]
    if empty:
        raise DataUnreadable(f"data '{data}': {len(empty)} {what} in {folder} are empty files: {few(empty)}. Restore or remove them.")


def need(root: Path | None, name: str) -> Path:
    """The folder or file that a data set was given. Raises DataMissing where none was given, or where it does not exist."""
    if root is None:
        looked = " and ".join(f"{words} ({place.absolute()})" for words, place in default_places(name).items())
        fetched = name in (known := registry.entries("data")) and known[name].downloads
        how = f"`robustvit data {name} --download` fetches them" if fetched else "`robustvit data` says how to get them"
        raise DataMissing(f"data '{name}' needs its files: give --data-dir PATH. Looked in {looked}; {how}.")
    if not root.exists():
        others = folder_names(name)[1:] if root.name == name else ()
        also = f" The folder may also be called {' or '.join(others)}." if others else ""
        raise DataMissing(
            f"data '{name}': there is nothing at {root}.{also} `robustvit data` says where data is looked for and how to get it."
        )
    return root


def need_folder(root: Path | None, name: str) -> Path:
    """As `need`, for a folder. Raises DataMissing where it is a file."""
    place = need(root, name)
    if not place.is_dir():
        raise DataMissing(f"data '{name}': {place} is a file; give the folder that holds the images.")
    return place


def read_text(path: Path) -> str:
    """The text of a file, without the byte order mark that it may begin with. Raises DataUnreadable where it is not readable as UTF-8."""
    if why := why_not_small(path, _LARGEST_TEXT):
        raise DataUnreadable(f"{path} {why}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataUnreadable(f"{path} cannot be read: {error}.") from error


def need_first_folder(candidates: Iterable[Path], missing: Callable[[], str]) -> Path:
    """The first of some paths that is a folder. Raises DataMissing with the message that `missing` gives where none is."""
    here = first_folder(candidates)
    if here is None:
        raise DataMissing(missing())
    return here


def first_folder(candidates: Iterable[Path]) -> Path | None:
    """The first of some paths that is a folder."""
    return next((place for place in candidates if place.is_dir()), None)


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones and leftovers of archives (`.…`, `__MACOSX`) are left out."""
    return sorted(item.name for item in _scan(folder) if _is_folder(item) and not item.name.startswith(_LEFTOVERS))


def some_subfolders(folder: Path) -> str:
    """The first few subfolders as a message names them, or "no folders"."""
    return few(subfolders(folder)) or "no folders"


def as_text(name: str) -> str:
    """A file name as text that can be hashed and stored, whatever bytes it has on disk."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _collect(folder: Path, prefix: str, found: list[ImageFile], below: bool, endings: tuple[str, ...]) -> LeftOut:
    """Adds the files below a folder to `found`; returns what is left out. The folders in it are not looked at where not `below`."""
    hidden = linked = 0
    others, inner = Counter[str](), LeftOut()
    for item in _scan(folder):
        is_folder = _is_folder(item)
        if is_folder and not below:
            continue
        if item.name.startswith("."):
            hidden += is_folder or is_hidden_image(item.name, endings)
        elif is_folder and item.is_symlink():
            linked += 1
        elif is_folder:
            inner += _collect(Path(item.path), f"{prefix}{item.name}/", found, below, endings)
        elif item.name.lower().endswith(endings):
            found.append(ImageFile(prefix + item.name, _size(item)))
        else:
            others[ending_of(item.name)] += 1
    return inner + LeftOut(others, linked_folders=linked, hidden=hidden)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError as error:  # such as a link that leads back to itself
        raise DataUnreadable(f"{item.path}: {error.strerror}. Restore or remove it.") from error


def _size(item: os.DirEntry[str]) -> int:
    try:
        return item.stat().st_size
    except OSError as error:
        raise DataUnreadable(f"{item.path}: {error.strerror}. Restore or remove it.") from error


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        raise DataUnreadable(f"the folder {folder} cannot be listed: {error.strerror}.") from error
