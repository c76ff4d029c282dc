"""Which data sets a command fetches, and the words about it; what fetches them is in robustvit.evaluation.downloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from robustvit.errors import BadParameter, DataMissing, few
from robustvit.evaluation.datasets import place_of
from robustvit.evaluation.downloads.declared import downloads_of
from robustvit.evaluation.downloads.pending import Pending, pending
from robustvit.evaluation.loading import load_data, refuse_no_folder
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.data_address import parse_data
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec
from robustvit.spec.suite import Suite


def pending_of(address: str, data_dir: Path | None) -> Pending:
    """What the data set at an address lacks of its files.

    Raises DataMissing where it is not fetched at all, or is there in part: a folder of somebody else's is not added to.
    """
    spec, place = parse_data(address)
    entry = registry.lookup("data", spec.name)
    _refuse_place(address, place, data_dir)
    found = pending(entry, _given(entry, spec), place, data_dir)
    if found.incomplete:
        raise DataMissing(f"{found.incomplete[0]}, which were not downloaded by robustvit. Move them away to fetch the whole set.")
    return found


def pending_of_run(suite: Suite, data: str | None, data_dir: Path | None) -> list[Pending]:
    """What the data sets of a run lack, those that scenarios and other data sets take among them, one for each folder.

    Raises DataMissing, naming all, where some are missing that are not fetched. What is there in part is evaluated as it is.
    """
    found: dict[Path, Pending] = {}
    absent: dict[str, str] = {}
    for spec, place, where in _data_of(suite, data, data_dir):
        entry = registry.lookup("data", spec.name)
        if downloads_of(entry):
            one = pending(entry, dict(bind(entry, spec).params), place, where)
            before = found.get(one.folder)
            lacking = (*(before.lacking if before else ()), *one.lacking)
            found[one.folder] = replace(one, lacking=tuple(dict.fromkeys(lacking)))
            continue
        try:
            load_data(spec, data_dir=place or where)
        except DataMissing:
            absent.setdefault(spec.name, f"data '{spec.name}' is missing and not fetched by robustvit. {entry.rules}")
    if absent:
        raise DataMissing("\n".join(absent.values()))
    return [one for one in found.values() if one.lacking]


def _data_of(suite: Suite, data: str | None, data_dir: Path | None) -> Iterator[tuple[Spec, Path | None, Path | None]]:
    """The data sets of a run, each with the folder of its files and that of all data, as far as they are given."""
    if data is not None:
        spec, place = parse_data(data)
        _refuse_place(data, place, data_dir)
        yield spec, place, data_dir
    for top in (*(suite.data if data is None else ()), *suite.scenarios):
        own = place_of(suite, top, data_dir) if top in suite.data else data_dir
        for spec in _nested(top):
            several = own is not None and own != data_dir and spec == top
            yield spec, own if several else None, None if several else data_dir


def _nested(spec: Spec) -> Iterator[Spec]:
    """The data sets in a Spec: itself, unless it is made of another, and those among its parameters."""
    inner = [one for _, value in spec.params if isinstance(value, Spec) for one in _nested(value)]
    if spec.kind == "data" and not any(value.kind == "data" for _, value in spec.params if isinstance(value, Spec)):
        yield spec
    yield from inner


def how_to_fetch(entry: Entry) -> str:
    """The sentence that names the command that fetches a data set; "" for one that is not fetched."""
    files = downloads_of(entry)
    if not files:
        return ""
    partly = next((name for one in files for name, _ in one.only), "")
    some = f"; NAME?{partly}=… takes those of one".replace("NAME", entry.name) if len(files) > 1 and partly else ""
    counted = f" in {len(files)} files" if len(files) > 1 else ""
    return f"`robustvit data {entry.name} --download` fetches it ({size_of([one.size for one in files])}{counted}{some})."


def about_pending(one: Pending) -> list[str]:
    """The lines that are shown before a data set is fetched: the licence first, then what, from where, to where."""
    hosts = few(list(dict.fromkeys(urlsplit(file.url).netloc for file in one.lacking)))
    unverified = [file.file for file in one.lacking if file.unverified]
    files = f"{len(one.lacking)} files, " if len(one.lacking) > 1 else ""
    lines = [
        f"{one.entry.name}: {one.entry.source}. Licence: {one.entry.licence}.",
        f"Fetching {files}{size_of([file.size for file in one.lacking])} from {hosts} into {one.folder}.",
    ]
    return lines + ([f"No checksum is known beforehand of {few(unverified)}."] if unverified else [])


def size_of(sizes: Sequence[int | None]) -> str:
    """The sum of some sizes as text: `1.6 GB`; `size not known before` where one is not known."""
    known = sum(size for size in sizes if size is not None)
    if None in sizes:
        return "size not known before" if not known else f"{_bytes(known)} and files of unknown size"
    return _bytes(known)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _given(entry: Entry, spec: Spec) -> dict[str, Any]:
    """The parameters that an address gives, checked; those that it leaves open are not among them."""
    names = [name for name, _ in spec.params]
    own = replace(entry, params=tuple(param for param in entry.params if param.name in names))
    return dict(bind(own, spec).params)


def _refuse_place(address: str, place: Path | None, data_dir: Path | None) -> None:
    refuse_no_folder(data_dir)
    if place is not None and data_dir is not None:
        raise BadParameter(f"the place of data '{address}' is given twice: in its address and as --data-dir {data_dir}. Leave one out.")
