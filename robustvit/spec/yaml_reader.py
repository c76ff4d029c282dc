"""YAML read safely: the scalars of YAML 1.2 (`no` is a string, `1e-3` a number), with the line of every node.

Nothing in a document executes: only mappings, sequences and scalars are built, repeated keys and recursive aliases are refused.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from robustvit.errors import SuiteError
from robustvit.spec.given import why_not_small

_MOST_BYTES = 8 << 20  # a suite has thousands
_MOST_NODES = 100_000  # a suite has hundreds; far more means aliases that multiply

_SCALARS = (
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    ("tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
)


_FORMS = {tag: pattern for tag, pattern, _ in _SCALARS}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


class Map(dict[str, Any]):
    """A mapping with its place (`file:line`) and the place of each key."""

    where: str = ""
    places: dict[str, str]


class Seq(list[Any]):
    """A sequence with its place and the place of each item."""

    where: str = ""
    places: list[str]


def read_yaml(path: Path, shown: str = "") -> Map:
    """Reads the mapping in a YAML file. Raises SuiteError with the line of the first error."""
    if why := why_not_small(path, _MOST_BYTES):
        raise SuiteError(f"{shown or path} {why}; a suite is a file of YAML.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{shown or path}: cannot be read: {error}.") from error
    return parse_yaml(text, shown or str(path))


def parse_yaml(text: str, shown: str) -> Map:
    """Reads the mapping in a YAML text. shown: the file name in messages."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = _Builder(shown).build(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SuiteError(f"{shown}{line}: not YAML: {getattr(error, 'problem', None) or error}.") from error
    except RecursionError as error:
        raise SuiteError(f"{shown}: nested too deeply to be a suite.") from error
    if not isinstance(value, Map):
        raise SuiteError(f"{shown}: expected a mapping with keys like name, data, scenarios, metrics.")
    return value


class _Builder:
    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.nodes = 0
        self.open: set[int] = set()

    def build(self, node: yaml.Node) -> Any:
        where = self.place(node)
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise SuiteError(f"{where}: the document unfolds to more than {_MOST_NODES} nodes.")
        if id(node) in self.open:
            raise SuiteError(f"{where}: an alias that contains itself.")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise SuiteError(f"{where}: the tag {node.tag} is not allowed here.")
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node)
            if isinstance(node, yaml.SequenceNode):
                items = Seq(self.build(item) for item in node.value)
                items.where, items.places = where, [self.place(item) for item in node.value]
                return items
            return self.scalar(node)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode) -> Map:
        built = Map()
        built.where, built.places = self.place(node), {}
        for key_node, value_node in node.value:
            key = self.build(key_node)
            if not isinstance(key, str):
                raise SuiteError(f"{self.place(key_node)}: the key {key!r} is not text; quote it.")
            if key in built:
                raise SuiteError(f"{self.place(key_node)}: the key '{key}' occurs twice in one mapping.")
            built[key] = self.build(value_node)
            built.places[key] = self.place(key_node)
        return built

    def scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.rpartition(":")[2]
        if node.tag in _FORMS and not _FORMS[node.tag].match(node.value):  # `!!int abc`
            raise SuiteError(f"{self.place(node)}: '{node.value}' is no {kind}, which its tag says it is.")
        if kind == "null":
            return None
        if kind == "bool":
            return node.value.lower() == "true"
        if kind in ("int", "float"):
            return self.number(node, kind)
        if kind != "str":
            raise SuiteError(f"{self.place(node)}: the tag {node.tag} is not allowed here.")
        return node.value

    def number(self, node: yaml.Node, kind: str) -> int | float:
        try:
            number = int(node.value) if kind == "int" else float(node.value)
        except ValueError as error:  # among others of more digits than Python reads
            raise SuiteError(f"{self.place(node)}: '{node.value}' is no number that can be used.") from error
        if not math.isfinite(number if kind == "float" else 0):
            raise SuiteError(f"{self.place(node)}: '{node.value}' is beyond all numbers that can be used.")
        return number

    def place(self, node: yaml.Node) -> str:
        return f"{self.shown}:{node.start_mark.line + 1}"
