"""Reads signatures as schemas: the parameters of plug-ins, with types and defaults, from source text.

Nothing is imported or executed: annotations are parsed as expressions, and a name in one is resolved to the `Literal` or
`Annotated` that it is assigned in the module that defines it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter

PLUGINS = {
    "Classifier": "model",
    "Data": "data",
    "Attack": "attack",
    "Corruption": "corruption",
    "Transform": "transform",
    "AdversarialImages": "kept",
}


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()


@dataclass(frozen=True)
class Hint:
    """The type of a parameter. base: float, int, bool, str, literal, plugin or any; text: the type in the words of a message."""

    text: str
    base: str = "any"
    choices: tuple[Any, ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()
    optional: bool = False
    sequence: bool = False
    plugin: str = ""


@dataclass(frozen=True)
class Param:
    """One keyword-only parameter of a plug-in."""

    name: str
    hint: Hint
    default: Any = ABSENT

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is ABSENT


class SourceModule:
    """A source file, parsed and not executed."""

    def __init__(self, source: str, path: str = "") -> None:
        self.path = path
        self.tree = ast.parse(source, path or "<source>")
        self.values = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        } | {
            node.target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        }  # fmt: skip
        typing_only = [inner for node in self.tree.body if isinstance(node, ast.If) for inner in node.body]  # of the façade: its exports
        self.imports = {
            (alias.asname or alias.name): (node.module, alias.name)
            for node in (*self.tree.body, *typing_only)
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            for alias in node.names
        }
        self.modules = {
            alias.asname or alias.name: alias.name for node in self.tree.body if isinstance(node, ast.Import) for alias in node.names
        }

    @classmethod
    def of_runtime(cls, function: Callable[..., Any]) -> SourceModule:
        """The module of an imported function, or an empty one where its source is not available."""
        try:
            return cls(Path(inspect.getsourcefile(function) or "").read_text(encoding="utf-8"))
        except (OSError, TypeError, SyntaxError):
            return cls("")

    def decorated(self, kinds: Mapping[str, str]) -> Iterator[tuple[ast.FunctionDef, str, dict[str, Any]]]:
        """The functions with one of the decorators in `kinds`, with the kind that this maps the decorator's name to, and its arguments."""
        for node in self.tree.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                call = decorator if isinstance(decorator, ast.Call) else None
                named = call.func if call else decorator
                name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
                if name in kinds and call:
                    yield node, kinds[name], {str(word.arg): self.literal(word.value) for word in call.keywords}

    def params(self, function: ast.FunctionDef) -> tuple[Param, ...]:
        """The keyword-only parameters of a function."""
        return tuple(
            Param(argument.arg, hint_of(argument.annotation, self), ABSENT if default is None else self.literal(default))
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        )

    @staticmethod
    def doc(function: ast.FunctionDef) -> str:
        """The docstring of a function."""
        return ast.get_docstring(function) or ""

    def literal(self, node: ast.expr) -> Any:
        """The value of a literal, a fraction such as 4/255, a name that is assigned one, a concatenation, or a tuple or dict of these."""
        if isinstance(node, ast.Name):
            home, definition = self.resolve(node.id)
            return home.literal(definition)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return Fraction(str(self.literal(node.left))) / Fraction(str(self.literal(node.right)))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.literal(node.left) + self.literal(node.right)
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self.literal(item) for item in node.elts)
        if isinstance(node, ast.Dict) and None not in node.keys:
            return {self.literal(key): self.literal(value) for key, value in zip(node.keys, node.values, strict=True) if key}
        return ast.literal_eval(node)

    def resolve(self, name: str) -> tuple[SourceModule, ast.expr]:
        """The module and expression of a module-level name's assignment. Raises BadParameter where there is none that can be read."""
        if name in self.values:
            return self, self.values[name]
        if name in self.imports:
            module, original = self.imports[name]
            home = _module(module)
            if home is not None:
                return home.resolve(original)
        raise BadParameter(
            f"{self.path}: '{name}' is not a literal, and a decorator or default must be readable without running the module."
        )


@functools.cache
def _module(name: str) -> SourceModule | None:
    top, _, rest = name.partition(".")
    found = importlib.util.find_spec(top)
    for root in (found.submodule_search_locations or []) if found else []:
        path = Path(root).joinpath(*rest.split(".")) if rest else Path(root)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return SourceModule(file.read_text(encoding="utf-8"), str(file))
    return None


def hint_of(annotation: ast.expr | str | None, module: SourceModule) -> Hint:
    """The Hint of an annotation, an expression or its text."""
    if annotation is None or annotation == "":
        return Hint("anything")
    node = ast.parse(annotation, mode="eval").body if isinstance(annotation, str) else annotation
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return hint_of(node.value, module)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union(_members(node), module)
    if isinstance(node, ast.Subscript):
        return _subscript(node, module)
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    if name in ("float", "int", "bool", "str"):
        words = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text"}
        return Hint(words[name], base=name)
    if name in PLUGINS:
        return Hint(f"a {PLUGINS[name]}", base="plugin", plugin=PLUGINS[name])
    home = _home(node, module)
    if home is not None and (name in home.values or name in home.imports):
        try:
            home, definition = home.resolve(name)
        except BadParameter:
            return Hint(name)
        return hint_of(definition, home)
    return Hint(name or "anything")


def _home(node: ast.expr, module: SourceModule) -> SourceModule | None:
    """The module in which a name is looked up: its own, or for `rv.Severity` the one imported as `rv`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in module.modules:
        return _module(module.modules[node.value.id])
    return module if isinstance(node, ast.Name) else None


def _members(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _members(node.left) + _members(node.right)
    return [node]


def _union(members: list[ast.expr], module: SourceModule) -> Hint:
    wanted = [node for node in members if not (isinstance(node, ast.Constant) and node.value is None)]
    if len(wanted) != 1:
        return Hint(" or ".join(ast.unparse(node) for node in members))
    inner = hint_of(wanted[0], module)
    return Hint(f"{inner.text} or null", inner.base, inner.choices, inner.bounds, True, inner.sequence, inner.plugin)


def _subscript(node: ast.Subscript, module: SourceModule) -> Hint:
    head = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    items = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head == "Literal":
        choices = tuple(module.literal(item) for item in items)
        return Hint(", ".join(str(choice) for choice in choices), base="literal", choices=choices)
    if head == "Annotated":
        inner = hint_of(items[0], module)
        bounds = tuple(bound for item in items[1:] if (bound := _bound(item, module)) is not None)
        signs = " and ".join(f"{sign} {limit:g}" for sign, limit in bounds)
        return Hint(f"{inner.text} {signs}".strip(), inner.base, inner.choices, bounds, inner.optional, inner.sequence, inner.plugin)
    if head in ("tuple", "list", "Sequence"):
        inner = hint_of(items[0], module)
        return Hint(f"a sequence of {inner.text}", inner.base, inner.choices, inner.bounds, False, True, inner.plugin)
    return Hint(ast.unparse(node))


def _bound(node: ast.expr, module: SourceModule) -> tuple[str, float] | None:
    signs = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in signs:
        limits = [*node.args, *(word.value for word in node.keywords)]
        return signs[node.func.id], float(module.literal(limits[0]))
    return None
