"""Finds data sets on this machine: where they were looked for, how complete they are, and how to get the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robustvit.cli.commands.fetching import how_to_fetch
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, RobustvitError
from robustvit.evaluation.loading import opened, refuse_no_folder
from robustvit.primitives.batch import Data, left_out, traits
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.data_address import default_places, parse_data, places_in, resolve_root
from robustvit.spec.plugin import Entry
from robustvit.spec.sample_order import Frames
from robustvit.spec.spec import Spec, show

_VARIANTS = 128  # that are opened at most; where there are more, one parameter is varied at a time


def status(name: str, data_dir: Path | str | None = None) -> dict[str, Any]:
    """One data set as `robustvit data` shows it, opened with its defaults.

    Returns name, found, where (the folder opened, or None), ambiguous (which folders may be it, "" unless several may), looked (places
    tried), images, expected (of the whole set, or None), left_out (what was found among the images and is not read, or None), classes,
    fingerprint, told (one line: what was found, or why nothing was), get (how to get it), fetch (the command that fetches it, "" where none
    does), url, licence. A data set that needs no files is
    always found.
    """
    entry = registry.lookup("data", name)
    about = _about(entry, None, data_dir)
    if _nests(entry):
        return {**about, "looked": [], "told": entry.rules}
    found = _opened(entry, Spec(name), None, data_dir)
    root = None if about["where"] is None else Path(about["where"])
    if isinstance(found, RobustvitError):
        nothing = root is None and isinstance(found, DataMissing)
        reason = f"not found; looked in {' and '.join(about['looked'])}." if nothing else str(found)
        words = (reason, entry.rules, how_to_fetch(entry) if nothing else "")
        return {**about, "told": " ".join(filter(None, words))}
    return {**about, **_counts(found), "found": True, "told": _described(found, root)}


class Variant(NamedTuple):
    """A data set with some of its parameters: the opened data and a line about it, or None and the reason."""

    params: dict[str, Any]
    data: Data | None
    description: str

    def as_dict(self) -> dict[str, Any]:
        """The variant as plain data, with the classes that have no images, and the names of the facts of its samples."""
        about = {"params": self.params, "found": self.data is not None, "told": self.description}
        if self.data is None:
            return about
        absent = np.setdiff1d(np.arange(len(self.data.classes)), self.data.labels)
        more = {"absent": [self.data.classes[i] for i in absent], "facts": sorted(traits(self.data).facts)}
        return {**about, **_counts(self.data), **more}


def describe(address: str, data_dir: Path | str | None = None) -> dict[str, Any]:
    """One data set in full: what `status` returns, its docstring as `doc`, its source, its `variants`, and whether any of them is found.

    Raises UnknownName or BadParameter for an address that names nothing, DataMissing where `data_dir` is no folder.
    """
    spec, place = parse_data(address)
    entry = registry.lookup("data", spec.name)
    refuse_no_folder(data_dir)
    _refuse_values(entry, spec)
    opened = [variant.as_dict() for variant in variants(address, data_dir)]
    about = _about(entry, place, data_dir)
    return {**about, "found": any(one["found"] for one in opened), "doc": entry.doc, "source": entry.source, "variants": opened}


def variants(address: str, data_dir: Path | str | None = None) -> Iterator[Variant]:
    """A data set opened with every choice of the parameters that its address leaves open; choices that it refuses are left out.

    Where there are too many choices, one parameter is varied at a time. A data set generated from another has no variants.
    """
    spec, place = parse_data(address)
    entry = registry.lookup("data", spec.name)
    if _nests(entry):
        return
    choices = _choices(entry, spec)
    for params in choices:
        found = _opened(entry, spec.with_params(**params), place, data_dir)
        shown = {**dict(spec.params), **params}
        if not isinstance(found, RobustvitError):
            yield Variant(shown, found, _described(found, _root(spec.name, place, data_dir)))
        elif not (isinstance(found, BadParameter) and len(choices) > 1):
            yield Variant(shown, None, str(found))


def _refuse_values(entry: Entry, spec: Spec) -> None:
    """Raises BadParameter for a parameter in an address that the data set does not have, or a value that it does not take."""
    given = {param.name: spec.get(param.name) for param in entry.params if spec.get(param.name) is not None}
    others = {key: value for key, value in spec.params if key not in given}
    bind(
        replace(entry, params=tuple(param for param in entry.params if param.name in given)), Spec(spec.name).with_params(**given, **others)
    )


def _choices(entry: Entry, spec: Spec) -> list[dict[str, Any]]:
    literal = [param for param in entry.params if param.hint.base == "literal" and not param.hint.optional]
    free = {param.name: param for param in literal if spec.get(param.name) is None}
    product = [dict(zip(free, chosen, strict=True)) for chosen in itertools.product(*(param.hint.choices for param in free.values()))]
    if len(product) <= _VARIANTS:
        return product
    usual = {name: param.default for name, param in free.items()}
    varied = [{**usual, name: choice} for name, param in free.items() for choice in param.hint.choices]
    return [one for i, one in enumerate(varied) if one not in varied[:i]]


def _opened(entry: Entry, spec: Spec, place: Path | None, data_dir: Path | str | None) -> Data | RobustvitError:
    try:
        return opened(entry, bind(entry, spec), _root(spec.name, place, data_dir), data_dir=data_dir)
    except RobustvitError as error:
        return error


def _nests(entry: Entry) -> bool:
    return any(param.hint.plugin for param in entry.params)


def _about(entry: Entry, place: Path | None, data_dir: Path | str | None) -> dict[str, Any]:
    root, ambiguous = None, ""
    try:
        root = _root(entry.name, place, data_dir)
    except DataUnreadable as error:  # several folders may be it
        ambiguous = str(error)
    return {
        "name": entry.name, "found": False, "where": None if root is None else str(root), "ambiguous": ambiguous,
        "looked": _looked(entry.name, place, data_dir),
        "images": None, "expected": None, "left_out": None, "classes": None, "fingerprint": None, "get": entry.rules, "url": entry.url,
        "licence": entry.licence, "fetch": how_to_fetch(entry),
    }  # fmt: skip


def _root(name: str, place: Path | None, data_dir: Path | str | None) -> Path | None:
    """The folder that is opened: `--data-dir` before a place in the address."""
    return resolve_root(name, data_dir) if data_dir is not None or place is None else place


def _looked(name: str, place: Path | None, data_dir: Path | str | None) -> list[str]:
    if data_dir is not None:
        return [str(one) for one in places_in(name, data_dir)]
    return [str(one.absolute()) for one in default_places(name).values()] if place is None else [str(place)]


def _counts(found: Data) -> dict[str, Any]:
    return {
        "images": len(found), "expected": traits(found).expected, "left_out": left_out(found) or None, "classes": len(found.classes),
        "fingerprint": found.fingerprint,
    }  # fmt: skip


def _described(found: Data, root: Path | None) -> str:
    beside = f"; left out: {left_out(found)}" if left_out(found) else ""
    unsure = f". {traits(found).ambiguous_order}" if traits(found).ambiguous_order else ""
    return f"{_size(found)} of {len(found.classes)} classes" + (f" in {root}" if root is not None else "") + beside + unsure


def _size(found: Data) -> str:
    """The number of images, with that of the whole set where it is another: `7,412 of 7,500 images`."""
    if isinstance(found.ids, Frames):
        return f"{len(found.ids.clips):,} clips"
    whole = traits(found).expected
    if whole is not None and len(found) > whole:
        return f"{len(found):,} images, {len(found) - whole:,} more than the whole set has,"
    return f"{len(found):,} images" if whole in (None, len(found)) else f"{len(found):,} of {whole:,} images"


def variant_name(params: dict[str, Any]) -> str:
    """The parameters of a variant as text: `split=top-images`."""
    return ", ".join(f"{name}={show(value)}" for name, value in params.items())
