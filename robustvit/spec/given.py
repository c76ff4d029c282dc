"""Checks of what a user gave before anything is done with it: paths, files, whole numbers, the parameters of an address."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from urllib.parse import parse_qsl

from robustvit.errors import BadParameter, with_article

LONGEST_NAME = 255  # bytes of a name in a path, on the usual file systems
_LONGEST_PATH = 4095
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def check_path(path: object, what: str) -> Path:
    """The path. Raises BadParameter for what no file can be called; `what` begins the message."""
    if not isinstance(path, str | os.PathLike):
        raise BadParameter(f"{what} is {path!r}, {with_article(type(path).__name__)}; it takes a path.")
    text = os.fspath(path)
    if not isinstance(text, str) or "\0" in text:
        raise BadParameter(f"{what} is {text!r}; a path is text without the character NUL.")
    parts = [len(os.fsencode(part)) for part in Path(text).parts]
    if max(parts, default=0) > LONGEST_NAME or len(os.fsencode(text)) > _LONGEST_PATH:
        raise BadParameter(
            f"{what} is {text[:40]}…, {len(text):,} characters long; a path takes {_LONGEST_PATH:,} bytes, a name in it {LONGEST_NAME}."
        )
    if os.path.islink(text) and not os.path.exists(text) and _loops(text):
        raise BadParameter(f"{what} is {text}, a link that leads back to itself.")
    return Path(text)


def _loops(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def why_not_regular(path: Path) -> str:
    """Why a path is no file whose bytes begin and end ("is a pipe"); "" for a regular file, links followed."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if stat.S_ISREG(mode) else f"is {_KINDS.get(stat.S_IFMT(mode), 'no regular file')}"


def why_not_small(path: Path, most: int) -> str:
    """As `why_not_regular`, and "has 20,000,000 bytes" for a file of more than `most` bytes."""
    size = 0 if (why := why_not_regular(path)) else path.stat().st_size
    return why or (f"has {size:,} bytes, more than the {most:,} that are read" if size > most else "")


def check_whole(value: object, what: str, least: int, most: int) -> None:
    """Raises BadParameter for anything but a whole number from `least` to `most`; `what` begins the message."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        shown = repr(value) if not isinstance(value, int) or value.bit_length() < 200 else "far beyond all numbers here"
        raise BadParameter(f"{what} is {shown}; it takes a whole number from {least} to {most:,}.")


def query_pairs(query: str, what: str, form: str = "NAME?key=value&key=value") -> dict[str, str]:
    """The parameters of an address by key, from the text after its question mark, which may be empty.

    Raises BadParameter, beginning with `what`, for a part that is no pair and for a key that occurs twice.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=1000)
    except ValueError as error:
        raise BadParameter(f"{what}: the part after '?' is not key=value pairs joined by '&'; write {form}.") from error
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadParameter(f"{what}: the parameter '{twice}' occurs twice; give one value.")
    return found
