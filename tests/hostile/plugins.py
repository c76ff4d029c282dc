"""Suites with hostile values: every parameter of every plug-in that a suite can name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hostile.calls import BIG, Call

from robustvit.spec import registry
from robustvit.spec.plugin import SCENARIOS, Entry
from robustvit.spec.schema import Hint

_HEAD = "name: hostile\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n"
_PLACES = {
    **dict.fromkeys(SCENARIOS, "name: hostile\ntitle: t\ndata: digits\nmetrics: [top1]\nscenarios:\n  - {}\n"),
    "data": "name: hostile\ntitle: t\nscenarios: [clean]\nmetrics: [top1]\ndata:\n  {}\n",
    "transform": _HEAD + "transforms:\n  - [{}]\n",
    "metric": "name: hostile\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics:\n  - {}\n",
}
_NONE_OF_ANY = ("{a: 1, b: 2}", "[]", "{}", "!!python/name:os.system x", "&a [*a]")
_BY_BASE = {
    "float": ("abc", "nan", ".nan", "-.inf", "1e999", "true", BIG, "1/0", "4/255/2", "-1e300", "0x10", "[[1, 2]]", "'1' '"),
    "int": ("abc", "nan", "0.5", "1e400", "true", BIG, "-9223372036854775809", "9223372036854775808", "1/2", "[[1]]", "'0.5'"),
    "bool": ("maybe", "2", "0.5", "yes", BIG, "[[true]]"),
    "literal": ("absurd", "99", "1.5", "true", BIG, "[[1]]", "-1", "''"),
    "str": ("5", "true", "0.5", "[[a]]", BIG),
    "plugin": ("absurd", "5", "true", "'os:system'", "{absurd: {}}", "[[digits]]", BIG, "'../x'"),
    "any": ("{a: 1, b: 2}",),
}


def hostile_values(hint: Hint) -> Iterator[str]:
    """The values, as YAML, that no parameter of this type takes."""
    yield from _NONE_OF_ANY
    if hint.sequence:
        yield from ("5", "abc", "[abc]", "[[abc]]", "[[nan, 1, 1]]", f"[[{BIG}]]", "[[true]]", "[[[1]]]")
        return
    yield from _BY_BASE[hint.base]
    if not hint.optional and hint.base not in ("any",):
        yield "null"
    for sign, limit in hint.bounds:
        yield f"{limit - 1 if '>' in sign else limit + 1:.0f}"
        if sign in (">", "<"):
            yield f"{limit:g}"


def entries() -> Iterator[Entry]:
    """The plug-ins with parameters that a suite can name."""
    for kind in _PLACES:
        yield from (entry for entry in registry.entries(kind).values() if entry.params and not entry.adapter)


def texts(entry: Entry) -> Iterator[tuple[str, str]]:
    """Suites in which one parameter of a plug-in is hostile, by name."""
    for param in entry.params:
        others = "".join(f", {other.name}: {_right(other.hint)}" for other in entry.params if other.required and other.name != param.name)
        for number, value in enumerate(hostile_values(param.hint)):
            yield f"{param.name}-{number}", _PLACES[entry.kind].format(f"{{{entry.name}: {{{param.name}: {value}{others}}}}}")
    yield "unknown", _PLACES[entry.kind].format(f"{{{entry.name}: {{absurd: 1}}}}")


def _right(hint: Hint) -> str:
    """A value that a parameter of this type takes."""
    if hint.base == "plugin":
        return {"attack": "pgd", "data": "digits", "model": "demo", "corruption": "fog", "kept": "x"}.get(hint.plugin, "x")
    return {"literal": str(hint.choices[0]) if hint.choices else "", "float": "0.1", "int": "1", "bool": "true"}.get(hint.base, "x")


def hostile_calls(root: Path) -> Iterator[Call]:
    """A call of `check` for each plug-in, on a suite for each hostile value of each parameter."""
    for entry in entries():
        place = root / "suites" / entry.kind / entry.name.replace("/", "-")
        place.mkdir(parents=True)
        paths = []
        for name, text in texts(entry):
            paths.append(place / f"{name}.yaml")
            paths[-1].write_text(text)
        yield Call(f"check {entry.kind} {entry.name}", ("check", *map(str, paths)), env={"COLUMNS": "200"})
