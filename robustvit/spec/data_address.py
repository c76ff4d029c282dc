"""Parses the addresses of data sets, and finds their files where the address gives no folder."""

from __future__ import annotations

import os
from pathlib import Path

from robustvit.errors import BadParameter
from robustvit.spec import registry
from robustvit.spec.given import check_path, query_pairs
from robustvit.spec.spec import Spec, Value

_ANYTHING = frozenset({"folder"})  # sets whose folders may have any name
_WITH_REST = {"hfds": "name", "wds": ""}  # forms `NAME/REST`: the parameter that takes REST, or "" where REST is a place


def parse_data(text: str) -> tuple[Spec, Path | None]:
    """The Spec of an address, not yet bound, and the place of its files where the address gives one.

    `digits`, `imagenet?split=train`, `folder:PATH`, `npz:PATH?classes=10`, `hfds/ORG/NAME`, `wds/PATH`, `package.module:function`.
    Raises BadParameter for parameters that are not `key=value`, and for an empty place.
    """
    if not isinstance(text, str):
        raise BadParameter(f"data is named by an address; this is a {type(text).__name__}, {text!r}. Write digits or folder:PATH.")
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
    """The folder of a data set's files: the first that exists of `places_in` a `data_dir`, or without that of `default_places(name)`.

    Where none exists: `data_dir` itself, or None.
    """
    if data_dir is not None:
        *named, itself = places_in(name, data_dir)
        return next((place for place in named if place.is_dir()), itself)
    return next((place for place in default_places(name).values() if place.is_dir()), None)


def places_in(name: str, data_dir: Path | str) -> list[Path]:
    """The places where a data set's files are looked for in a given folder: the folder of its name in it, then the folder itself.

    `folder` is not looked for by name: a class may have that name.
    """
    itself = check_path(data_dir, "--data-dir").expanduser()
    return [itself] if name in _ANYTHING else [itself / name, itself]


def default_places(name: str) -> dict[str, Path]:
    """The places where a data set's files are looked for when no folder is given, in order, by their descriptions."""
    home = os.environ.get("ROBUSTVIT_DATA")
    found = {f"$ROBUSTVIT_DATA/{name}": Path(home).expanduser() / name} if home else {}
    return {**found, f"./data/{name}": Path("data") / name}


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
