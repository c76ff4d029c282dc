"""What a data set lacks of its files: which downloads its folder holds already, and which are to be fetched."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter, DataError, DataMissing, RobustvitError
from robustvit.evaluation.downloads.declared import Download, downloads_of
from robustvit.evaluation.downloads.placing import is_placing, placed_downloads
from robustvit.evaluation.loading import opened
from robustvit.primitives.batch import Data, traits
from robustvit.spec.binding import bind
from robustvit.spec.data_address import download_folder, resolve_root
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec


@dataclass(frozen=True)
class Pending:
    """A data set with some of its parameters, the folder that it is downloaded to, and the downloads that this lacks.

    incomplete: what is there of those that are neither whole nor absent, one sentence for each: these are not fetched.
    """

    entry: Entry
    params: Mapping[str, Any]
    folder: Path
    lacking: tuple[Download, ...]
    incomplete: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """The bytes to fetch, None where those of a file are not known before."""
        sizes = [one.size for one in self.lacking]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def pending(entry: Entry, params: Mapping[str, Any], place: Path | None, data_dir: Path | str | None) -> Pending:
    """What is to be fetched of a data set with some of its parameters; of any values of the others.

    place, data_dir: the folder in its address, and the folder of all data, if given. Raises DataMissing where it is not fetched at all,
    with where and how it is had.
    """
    declared = downloads_of(entry)
    if not declared:
        raise DataMissing(f"data '{entry.name}' is not fetched by robustvit. {entry.rules}" + (f" See {entry.url}." if entry.url else ""))
    wanted = [one for one in declared if one.serves(params)]
    if not wanted:
        raise BadParameter(f"data '{entry.name}': none of its {len(declared)} files is for {_shown(params)}.")
    folder = (place or download_folder(entry.name, data_dir)).absolute()
    held = placed_downloads(folder)
    lacking: list[Download] = []
    incomplete: list[str] = []
    for one in wanted:
        if one.url in held:
            continue
        state = "" if is_placing(folder, one.url) else _state(entry, one, params, place, data_dir)
        if state == "":
            lacking.append(one)
        elif state is not None:
            incomplete.append(state)
    return Pending(entry, params, folder, tuple(lacking), tuple(incomplete))


def _state(entry: Entry, one: Download, params: Mapping[str, Any], place: Path | None, data_dir: Path | str | None) -> str | None:
    """None where all that a download brings is there already, from elsewhere; "" where it is not; else a sentence about what there is."""
    root = place or resolve_root(entry.name, data_dir)
    if root is None or not root.exists():
        return ""
    found = [_opened(entry, variant, root, data_dir) for variant in _variants(one, params)]
    absent = [data for data in found if isinstance(data, RobustvitError)]
    if absent:
        return ""
    lacking = [data for data in found if not isinstance(data, RobustvitError) and _incomplete(data)]
    if placed_downloads(root) and any(traits(data).expected is None for data in found if not isinstance(data, RobustvitError)):
        return ""  # of other files that were downloaded: nothing else says what a whole set has
    if not lacking:
        return None
    data = lacking[0]
    return f"data '{entry.name}': {root} holds {len(data):,} of {traits(data).expected:,} images"  # type: ignore[arg-type]


def _variants(one: Download, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters of the data sets that a download is for."""
    given = {name: value for name, value in params.items() if value is not None}
    free = [[(name, value) for value in values] for name, values in one.only if name not in given]
    return [{**given, **dict(chosen)} for chosen in itertools.product(*free)]


def _opened(entry: Entry, params: Mapping[str, Any], root: Path, data_dir: Path | str | None) -> Data | RobustvitError:
    try:
        return opened(entry, bind(entry, Spec(entry.name).with_params(**params)), root, data_dir=data_dir)
    except RobustvitError as error:
        return error


def _incomplete(data: Data) -> bool:
    expected = traits(data).expected
    return expected is not None and len(data) < expected


def _shown(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def open_fetched(one: Pending, data_dir: Path | str | None = None) -> Data:
    """The data set in its folder. Raises DataError where it cannot be opened."""
    place = one.folder if one.folder.exists() else resolve_root(one.entry.name, data_dir)
    assert place is not None
    found = _opened(one.entry, one.params, place, data_dir)
    if isinstance(found, RobustvitError):
        raise DataError(f"data '{one.entry.name}' is in {place} and cannot be opened: {found}") from found
    return found
