"""Parses the addresses of data sets, and finds their files where the address gives no folder."""

from __future__ import annotations

import os
from pathlib import Path

from robustvit.errors import BadParameter, DataUnreadable, with_article
from robustvit.spec import registry
from robustvit.spec.given import check_path, query_pairs
from robustvit.spec.spec import Spec, Value

_ANYTHING = frozenset({"folder"})  # sets whose folders may have any name
_WITH_REST = {"hfds": "name", "tfds": "name", "wds": ""}  # forms `NAME/REST`: the parameter that takes REST, or "" where REST is a place


def parse_data(text: str) -> tuple[Spec, Path | None]:
    """The Spec of an address, not yet bound, and the place of its files where the address gives one.

    `digits`, `imagenet?split=train`, `folder:PATH`, `npz:PATH?classes=10`, `hfds/ORG/NAME`, `tfds/NAME`, `wds/PATH`,
    `package.module:function`.
    Raises BadParameter for parameters that are not `key=value`, and for an empty place.
    """
    if not isinstance(text, str):
        raise BadParameter(
            f"data is named by an address; this is {with_article(type(text).__name__)}, {text!r}. Write digits or folder:PATH."
        )
    address, params = _parameters(text)
    head, slash, rest = address.partition("/")
    if slash and head in _WITH_REST:
        _refuse_empty(rest, text)
        key = _WITH_REST[head]
        return (Spec(head).with_params(**{**params, key: rest}), None) if key else (Spec(head).with_params(**params), _place(rest))
    name, colon, rest = address.partition(":")
    if colon and name in registry.entries("data"):
        _refuse_empty(rest, text)
        return Spec(name).with_params(**params), _place(rest)
    return Spec(address).with_params(**params), None


def resolve_root(name: str, data_dir: Path | str | None) -> Path | None:
    """The folder of a data set's files: the one of its names in `data_dir`, or without that in the first of the usual places that has one.

    Where none exists: `data_dir` itself, or None. Raises DataUnreadable as `named_folder` does.
    """
    if data_dir is not None:
        itself = Path(data_dir).expanduser()
        return itself if name in _ANYTHING else named_folder(name, itself) or itself
    return next((found for parent in _usual().values() if (found := named_folder(name, parent))), None)


def named_folder(name: str, parent: Path) -> Path | None:
    """The folder in `parent` that has one of the names of a data set, without regard to case; None where none has.

    Raises DataUnreadable, naming them, where several have: only a user knows which is meant.
    """
    known = {one.casefold() for one in folder_names(name)}
    found = [one for one in sorted(parent.iterdir()) if one.name.casefold() in known and one.is_dir()] if parent.is_dir() else []
    others = [one.name for one in found[1:] if not one.samefile(found[0])]
    if others:
        raise DataUnreadable(
            f"data '{name}': {parent} holds {found[0].name}/ and {'/ and '.join(others)}/, and either may be this data set. "
            "Rename or move those that are not meant."
        )
    return found[0] if found else None


def folder_names(name: str) -> tuple[str, ...]:
    """The names under which the folder of a data set's files is known: its own, and the `folders` of its plug-in."""
    entry = registry.entries("data").get(name)
    return (name, *(entry.folders if entry else ()))


def places_in(name: str, data_dir: Path | str) -> list[Path]:
    """The places where a data set's files are looked for in a given folder: the folders of its names in it, then the folder itself.

    `folder` is not looked for by name: a class may have that name.
    """
    itself = check_path(data_dir, "--data-dir").expanduser()
    return [itself] if name in _ANYTHING else [*(itself / one for one in folder_names(name)), itself]


def download_folder(name: str, data_dir: Path | str | None) -> Path:
    """The folder that the files of a data set are downloaded to: one of its names in `data_dir`, or in the first of the usual places.

    Raises DataUnreadable as `named_folder` does.
    """
    parents = [Path(data_dir).expanduser()] if data_dir is not None else list(_usual().values())
    return next((found for parent in parents if (found := named_folder(name, parent))), parents[0] / name)


def default_places(name: str) -> dict[str, Path]:
    """The places where a data set's files are looked for when no folder is given, in order, by their descriptions."""
    return {f"{words}/{one}": parent / one for words, parent in _usual().items() for one in folder_names(name)}


def _usual() -> dict[str, Path]:
    home = os.environ.get("ROBUSTVIT_DATA")
    return {**({"$ROBUSTVIT_DATA": Path(home).expanduser()} if home else {}), "./data": Path("data")}


def _parameters(text: str) -> tuple[str, dict[str, Value]]:
    address, mark, query = text.rpartition("?")
    if not mark or "=" not in query:  # a `?` without parameters belongs to the path
        return text, {}
    return address, dict(query_pairs(query, f"data '{text}'"))


def _refuse_empty(rest: str, text: str) -> None:
    if not rest.strip("/"):
        raise BadParameter(f"data '{text}' has nothing after its first part; write for example folder:PATH, npz:PATH or hfds/ORG/NAME.")


def _place(rest: str) -> Path:
    return check_path(rest, "the place in a data set's address").expanduser()
