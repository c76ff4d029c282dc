"""The files that a data set is downloaded as: addresses, sizes and checksums, which its plug-in declares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import unquote, urlsplit

from robustvit.errors import BadParameter, nearest
from robustvit.spec.plugin import Entry

_SCHEMES = ("https", "http", "hf")
_HUB = "hf://datasets/"
_HEX = {"md5": 32, "sha256": 64}  # digits of a checksum


@dataclass(frozen=True)
class Download:
    """One file of a data set, a record of Zenodo, or a repository of the Hugging Face hub.

    url: https://…; https://zenodo.org/records/NUMBER is every file of that record, with the checksums that it lists;
    hf://datasets/ORG/NAME is every file of that repository. size: bytes. md5, sha256: hexadecimal, "" where none is published. source:
    where the size and the checksum were read. into: the folder of the data set that the file is unpacked in, "" for its own.
    only: the parameters of the data set that need this file, with the values that do.
    """

    url: str
    size: int | None = None
    md5: str = ""
    sha256: str = ""
    source: str = ""
    into: str = ""
    only: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def file(self) -> str:
        """The name of the file: the last part of its address."""
        return unquote(urlsplit(self.url).path.rstrip("/").rpartition("/")[2])

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The algorithm and digits of the strongest checksum that is published, None where none is."""
        return next(((name, getattr(self, name)) for name in ("sha256", "md5") if getattr(self, name)), None)

    @property
    def record(self) -> tuple[str, str] | None:
        """The server and number of a record of Zenodo, None for another address."""
        found = re.fullmatch(r"(https?://[^/]+)/records/(\d+)/?", self.url)
        return None if found is None else (found[1], found[2])

    @property
    def repository(self) -> str:
        """The name of a repository of the Hugging Face hub, "" for another address."""
        return self.url.removeprefix(_HUB) if self.url.startswith(_HUB) else ""

    @property
    def unverified(self) -> bool:
        """Whether nobody publishes a checksum: neither here, nor in the list of a record or a repository."""
        return self.checksum is None and self.record is None and not self.repository

    def serves(self, params: Mapping[str, Any]) -> bool:
        """Whether the data set with some of its parameters needs this file; a parameter that is not among them may have any value."""
        return all(params.get(name) is None or params[name] in values for name, values in self.only)


def downloads_of(entry: Entry) -> tuple[Download, ...]:
    """The files of a data set, none where it is not fetched. Raises BadParameter for a declaration that is not right.

    `{corruption}` in an address stands for the values of that parameter: one file for each.
    """
    return tuple(one for given in entry.downloads for one in _expanded(entry, _checked(entry, given)))


def _checked(entry: Entry, given: Mapping[str, Any]) -> Download:
    where = f"data '{entry.name}', downloads"
    known = [one.name for one in fields(Download)]
    unknown = [key for key in given if key not in known]
    if unknown:
        raise BadParameter(f"{where}: no field is called '{unknown[0]}'.{nearest(unknown[0], known)} They are {', '.join(known)}.")
    url = given.get("url", "")
    if urlsplit(url).scheme not in _SCHEMES or not urlsplit(url).netloc:
        raise BadParameter(f"{where}: '{url}' is no address that can be fetched; it begins with https://, http:// or hf://.")
    for name, digits in _HEX.items():
        if given.get(name) and not (len(given[name]) == digits and set(given[name]) <= set("0123456789abcdef")):
            raise BadParameter(f"{where}: '{given[name]}' is no {name}, which has {digits} digits 0-9 and a-f.")
    if given.get("into") and (given["into"].startswith("/") or ".." in given["into"].split("/")):
        raise BadParameter(f"{where}: into '{given['into']}' leads out of the folder of the data set.")
    only = tuple((name, tuple(values)) for name, values in given.get("only", {}).items())
    params = {param.name for param in entry.params}
    if missing := [name for name, _ in only if name not in params]:
        raise BadParameter(f"{where}: it has no parameter '{missing[0]}'.{nearest(missing[0], params)}")
    return Download(**{**given, "only": only})


def _expanded(entry: Entry, one: Download) -> list[Download]:
    """A file for each value of the parameter that an address names in braces."""
    named = next((param for param in entry.params if f"{{{param.name}}}" in one.url), None)
    if named is None:
        return [one]
    return [
        Download(
            one.url.replace(f"{{{named.name}}}", str(value)), one.size, one.md5, one.sha256, one.source, one.into,
            (*one.only, (named.name, (value,))),
        )
        for value in named.hint.choices
    ]  # fmt: skip
