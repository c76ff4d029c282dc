"""Finds plug-ins by reading source files, without importing them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from robustvit.errors import BadParameter, UnknownName
from robustvit.spec.plugin import DECORATORS, PLURALS, Entry, two_claim
from robustvit.spec.schema import SourceModule


@functools.cache
def announced_entries() -> dict[tuple[str, str], Entry]:
    """The built-in plug-ins and those of installed packages, by kind and name. Raises UnknownName where two claim one name."""
    found: dict[tuple[str, str], Entry] = {}
    for module, path in _modules():
        for entry in _read(module, path):
            key = (entry.kind, entry.name)
            known = found.get(key, entry)  # a file is read twice where a package and a module in it are announced
            if (known.path, known.line) != (entry.path, entry.line):
                raise UnknownName(two_claim(known, entry))
            found[key] = entry
    return found


def _modules() -> Iterator[tuple[str, Path]]:
    here = Path(__file__).parents[1]
    for room in sorted(set(PLURALS.values())):
        for path in sorted((here / room).rglob("*.py")):
            yield ".".join(("robustvit", *path.relative_to(here).with_suffix("").parts)), path
    for point in metadata.entry_points(group="robustvit"):
        yield from _source_of(point.module)


def _source_of(module: str) -> Iterator[tuple[str, Path]]:
    """The source files of an announced module or package, without importing it."""
    top, _, rest = module.partition(".")
    found = importlib.util.find_spec(top)
    roots = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    if found and found.origin and not roots:
        yield module, Path(found.origin)
    for root in roots:
        path = root.joinpath(*rest.split(".")) if rest else root
        if path.with_suffix(".py").is_file():
            yield module, path.with_suffix(".py")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else []:
            inner = file.relative_to(path).with_suffix("").parts
            yield ".".join((module, *(part for part in inner if part != "__init__"))), file


def _read(name: str, path: Path) -> Iterator[Entry]:
    source = path.read_text(encoding="utf-8")
    if "@" not in source:
        return
    module = SourceModule(source, str(path))
    for function, kind, about in module.decorated(DECORATORS):
        entry = Entry(
            kind=kind, module=name, function=function.name, params=module.params(function), doc=module.doc(function),
            path=str(path), line=function.lineno, **{"name": function.name, **about},
        )  # fmt: skip
        yield from _tabled(entry) if entry.table else (entry,)


def _tabled(entry: Entry) -> Iterator[Entry]:
    """The entries of the names in a table, each with its own docstring and source. Raises BadParameter for a file that is no such table."""
    path = Path(entry.path).parent / entry.table
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        yield from [replace(entry, name=name, doc=row["doc"], source=row.get("source", entry.source)) for name, row in rows.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadParameter(f'{path} is no table of {entry.kind}s, {{name: {{"doc": …}}}}: {type(error).__name__}: {error}') from error
