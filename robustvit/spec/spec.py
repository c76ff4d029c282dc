"""Names and their arguments as data: the contents of a suite file before they are checked.

A node is what YAML or a command line gives: `fog`, `{fog: {severity: 3}}`. A list in an argument's place is an axis: one Spec for
each of its values, and several axes multiply. `[[3, 6, 9]]` is one value that is itself a sequence.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias

from robustvit.errors import BadParameter, with_article

DIGEST_VERSION = 1
MOST = 100_000  # combinations of axes, and cells of one model on one data set: what a store can hold and a person mean

_LONGEST = 1000  # bits of a whole number that is spelt out

Value: TypeAlias = "bool | int | float | str | Fraction | Spec | tuple[Value, ...] | None"


@dataclass(frozen=True, slots=True)
class Spec:
    """A name and its arguments.

    `kind` and `version` are set when the Spec is bound to a registered plug-in (`registry.bind`). `where` says where it was written
    (`suites/linf.yaml:14`) and is no part of its identity.
    """

    name: str
    params: tuple[tuple[str, Value], ...] = ()
    kind: str = ""
    version: int = 0
    where: str = field(default="", compare=False)

    def get(self, key: str, default: Value = None) -> Value:
        """The argument `key`, or `default`."""
        return dict(self.params).get(key, default)

    def at(self, path: str) -> Value:
        """The argument that a dotted path leads to through nested Specs (`attack.eps`), None where it leads nowhere."""
        first, _, rest = path.partition(".")
        value = self.get(first)
        if not rest:
            return value
        return value.at(rest) if isinstance(value, Spec) else None

    def without(self, path: str) -> Spec:
        """The same Spec without the argument that a dotted path leads to."""
        first, _, rest = path.partition(".")
        inner = self.get(first)
        if rest:
            return self.with_params(**{first: inner.without(rest)}) if isinstance(inner, Spec) else self
        return replace(self, params=tuple((key, value) for key, value in self.params if key != first))

    def with_params(self, /, **params: Value) -> Spec:
        """The same Spec with arguments added or replaced."""
        merged = {**dict(self.params), **params}
        return replace(self, params=tuple(sorted(merged.items())))

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(f'{key}={show(value)}' for key, value in self.params)})"


def parse(node: object, where: str = "") -> list[Spec]:
    """Parses a node to Specs: one, or one for each combination of its axes.

    node: a name, or a mapping of one name to its arguments. where: the place in messages, for a node without one of its own.
    Raises BadParameter for any other shape.
    """
    where = getattr(node, "where", "") or where
    if isinstance(node, Spec):
        return [node]
    if isinstance(node, str):
        return [Spec(str(node), where=where)]
    if not isinstance(node, Mapping) or len(node) != 1:
        raise BadParameter(f"{at_place(where)}expected a name, or one name with its arguments like {{pgd: {{eps: 4/255}}}}; got {node!r}.")
    ((name, arguments),) = node.items()
    if arguments is None:
        return [Spec(str(name), where=where)]
    if not isinstance(arguments, Mapping):
        raise BadParameter(f"{at_place(where)}the arguments of '{name}' must be a mapping like {{severity: 3}}; got {arguments!r}.")
    axes = [[(str(key), value) for value in _axis(argument, where)] for key, argument in arguments.items()]
    refuse_product([len(axis) for axis in axes], f"{at_place(where)}the lists among the arguments of '{name}'")
    return [Spec(str(name), tuple(sorted(point, key=lambda pair: pair[0])), where=where) for point in itertools.product(*axes)]


def _axis(argument: object, where: str) -> Iterator[Value]:
    values = argument if isinstance(argument, list) else [argument]
    if not values:
        raise BadParameter(f"{at_place(where)}an empty list sweeps over nothing; give at least one value.")
    for value in values:
        if isinstance(value, Mapping):
            yield from parse(value, where)
        elif isinstance(value, list):
            yield tuple(_one(item, where) for item in value)
        else:
            yield _one(value, where)


def _one(value: object, where: str) -> Value:
    if isinstance(value, Mapping):
        specs = parse(value, where)
        if len(specs) != 1:
            raise BadParameter(f"{at_place(where)}a sweep is not allowed inside a sequence: {value!r}.")
        return specs[0]
    if isinstance(value, list):
        return tuple(_one(item, where) for item in value)
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float | Fraction | Spec):
        return value
    raise BadParameter(f"{at_place(where)}cannot use {value!r} ({with_article(type(value).__name__)}) as an argument.")


def refuse_product(lengths: Iterable[int], what: str) -> None:
    """Raises BadParameter where axes of these lengths multiply to more than a suite can hold; called before they are multiplied."""
    count = math.prod(lengths)
    if count > MOST:
        raise BadParameter(f"{what} multiply to {count:,} combinations; a suite takes at most {MOST:,}.")


def at_place(where: str) -> str:
    """What a message about a place begins with: `suites/linf.yaml:14: `; nothing where no place is known."""
    return f"{where}: " if where else ""


def canonical(value: Any) -> Any:
    """The canonical JSON form of a value, which `digest` hashes. Fractions stay fractions, a float keeps every digit."""
    if isinstance(value, Spec):
        params = {key: canonical(item) for key, item in value.params}
        return {"name": value.name, "params": params, "kind": value.kind, "version": value.version}
    if isinstance(value, Fraction):
        return {"fraction": f"{value.numerator}/{value.denominator}"}
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"no canonical form for {with_article(type(value).__name__)}")


def revive(value: Any) -> Any:
    """The inverse of `canonical`: Specs, Fractions and tuples from their JSON form."""
    if isinstance(value, Mapping):
        if set(value) == {"name", "params", "kind", "version"}:
            params = tuple(sorted((key, revive(item)) for key, item in value["params"].items()))
            return Spec(value["name"], params, value["kind"], value["version"])
        if set(value) == {"fraction"}:
            return Fraction(value["fraction"])
        return {key: revive(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(revive(item) for item in value)
    return value


def digest(value: Any) -> str:
    """A hash of a value that is the same in every process: 20 hex digits of sha256 over its canonical JSON."""
    text = json.dumps([DIGEST_VERSION, canonical(value)], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def show(value: Value) -> str:
    """Formats a value as a person writes it: `4/255`, `fog(severity=3)`, `[3, 6, 9]`."""
    if isinstance(value, Fraction):
        levels = value * 255
        return (
            f"{float(levels):g}/255"
            if 0 <= levels <= 64 and levels.denominator in (1, 2, 4, 5, 10)
            else f"{value.numerator}/{value.denominator}"
        )
    if isinstance(value, tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        return f"a number of about {value.bit_length() * 0.30103:,.0f} digits"
    return str(value)


def plain(value: Value) -> Any:
    """A value as a function takes it: a Fraction becomes the nearest float, everything else is unchanged."""
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return value
