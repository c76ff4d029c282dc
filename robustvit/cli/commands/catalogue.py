"""The rows and descriptions that `robustvit list` prints, without importing any plug-in."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

from robustvit.cli.commands.timm_names import timm_names
from robustvit.errors import UnknownName, nearest
from robustvit.spec import model_address as address
from robustvit.spec import registry
from robustvit.spec.plugin import KINDS, PLURALS, Entry
from robustvit.spec.spec import Spec, Value, show
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import load_suite, suite_files

_SHORT = 6  # characters of a number that nobody needs as a fraction
_ANY = "NAME"  # placeholder for the names of another library: torchattacks/NAME

LISTED = ("suites", *(PLURALS[kind] for kind in KINDS))


def index(kind: str) -> list[dict[str, Any]]:
    """One row per plug-in or suite of a kind (`suites`, `corruptions`, …, or the singular). Raises UnknownName."""
    wanted = _kind(kind)
    if wanted == "suites":
        return [_suite_row(load_suite(name)) for name in suite_files()]
    rows = [_row(entry) for entry in registry.entries(_singular(wanted)).values()]
    if wanted == "models":
        rows += [{"name": alias, "family": "alias", "what": f"timm's {arch}"} for alias, arch in sorted(address.ALIASES.items())]
    return rows


def kinds() -> list[dict[str, Any]]:
    """One row per kind that can be listed: its name, how many there are, and some of them, or their families."""
    return [_overview(kind) for kind in LISTED]


def _overview(kind: str) -> dict[str, Any]:
    if kind == "suites":
        return {"name": kind, "count": len(suite_files()), "among them": ", ".join(suite_files())}
    rows = index(kind)
    families = Counter(row["family"] for row in rows)
    if "" in families or len(families) == 1 or kind == "models":
        return {"name": kind, "count": len(rows), "among them": ", ".join(row["name"] for row in rows)}
    counts = ", ".join(f"{family} {count}" for family, count in families.items())
    return {"name": kind, "count": len(rows), "among them": f"{len(families)} families: {counts}"}


def search(kind: str, word: str) -> list[dict[str, Any]]:
    """The rows of a kind whose name, family or summary has a word in it, whatever its case; of models timm's names as well."""
    wanted, found = _kind(kind), word.lower()
    rows = [row for row in index(kind) if any(found in str(value).lower() for value in row.values())]
    if wanted == "models":
        rows += [{"name": name, "family": "timm", "what": ""} for name in timm_names() if found in name.lower()]
    return rows


def is_known(kind: str, name: str) -> bool:
    """Whether one of a kind is called so."""
    wanted = _kind(kind)
    if wanted == "suites":
        return name in suite_files()
    entries = registry.entries(_singular(wanted))
    adapted = any(entry.adapter and name.startswith(entry.name) for entry in entries.values())
    return name in entries or adapted or (wanted == "models" and name in address.ALIASES)


def about(kind: str, name: str) -> dict[str, Any]:
    """The docstring, parameters, source, licence and citation of one of them. Raises UnknownName with the nearest names."""
    wanted = _kind(kind)
    if wanted == "suites":
        known = suite_files()
        if name not in known:
            raise UnknownName(f"no suite is called '{name}'.{nearest(name, known)} The suites are {', '.join(known)}.")
        return _suite_page(load_suite(name))
    if wanted == "models" and name in address.ALIASES:
        return {"kind": "model", "name": name, "doc": f"A short name for timm's {address.ALIASES[name]}."}
    adapter = registry.entries(_singular(wanted)).get(name.removesuffix(_ANY))
    return plugin_page(adapter if adapter is not None and adapter.adapter else registry.lookup(_singular(wanted), name))


def _kind(kind: str) -> str:
    singulars = {**PLURALS, "suite": "suites"}
    wanted = singulars.get(kind, kind)
    if wanted not in LISTED:
        raise UnknownName(f"nothing to list is called '{kind}'.{nearest(kind, LISTED)} There are {', '.join(LISTED)}.")
    return wanted


def _singular(plural: str) -> str:
    return next(single for single, many in PLURALS.items() if many == plural)


def _row(entry: Entry) -> dict[str, Any]:
    return {"name": f"{entry.name}{_ANY}" if entry.adapter else entry.name, "family": entry.family, "what": entry.summary}


def _suite_row(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "data": ", ".join(dict.fromkeys(spec.name for spec in suite.data)),
        "cells": sum(len(part.data) * len(part.scenarios) for part in suite.parts) * len(suite.transforms) * len(suite.seeds),
        "what": suite.title,
    }


def _suite_page(suite: Suite) -> dict[str, Any]:
    return {
        "kind": "suite", "name": suite.name, "doc": suite.title, "rules": suite.rules, "data": _brief(suite.data), "version": suite.version,
        "scenarios": _brief(suite.scenarios), "metrics": [spec.name for spec in suite.metrics], "paper": suite.paper, "url": suite.url,
        "licence": suite.licence, "citation": suite.citation, "file": suite.where,
    }  # fmt: skip


def _brief(specs: tuple[Spec, ...]) -> list[str]:
    return [str(spec) for spec in specs]


def plugin_page(entry: Entry) -> dict[str, Any]:
    """What `robustvit list KIND NAME` shows, as plain data."""
    params = {
        param.name: {
            "takes": param.hint.text,
            "default": None if param.required else show(_display(param.default)),
            "required": param.required,
        }
        for param in entry.accepted
    }
    return {
        "kind": entry.kind, "name": entry.name, "doc": entry.doc, "parameters": params, "source": entry.source, "url": entry.url,
        "licence": entry.licence, "citation": entry.citation, "rules": entry.rules, "version": entry.version, "family": entry.family,
        "module": f"{entry.module}:{entry.function}", "file": f"{entry.path}:{entry.line}",
    }  # fmt: skip


def _display(value: Any) -> Value:
    """A default as people write it: 0.0313725490196078 as 8/255, 0.22 as it is."""
    levels = isinstance(value, float) and 0 < value < 1 and (value * 2550) % 1 == 0 and len(repr(value)) > _SHORT
    return Fraction(value).limit_denominator(25500) if levels else value
