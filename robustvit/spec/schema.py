"""Signatures read as schemas: annotations and defaults from source text, values coerced to what they ask for.

Nothing is imported or executed: annotations are parsed as expressions, and a name in one is followed to the `Literal` or
`Annotated` it stands for in the module that defines it.
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

from robustvit.errors import BadParameter, nearest
from robustvit.spec.spec import Spec, Value, show

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
    """What one parameter takes. `base` is float, int, bool, str, literal, plugin or any."""

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


class Module:
    """One source file, parsed and not executed."""

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
    def of_runtime(cls, function: Callable[..., Any]) -> Module:
        """The module of a live function, or an empty one where its source is not at hand."""
        try:
            return cls(Path(inspect.getsourcefile(function) or "").read_text(encoding="utf-8"))
        except (OSError, TypeError, SyntaxError):
            return cls("")

    def decorated(self, kinds: Mapping[str, str]) -> Iterator[tuple[ast.FunctionDef, str, dict[str, Any]]]:
        """The functions under one of some decorators, with the kind that `kinds` gives the decorator's name, and its arguments."""
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
        """The value of a literal, a fraction such as 4/255, a name that stands for one, or a concatenation of strings."""
        if isinstance(node, ast.Name):
            home, definition = self.resolve(node.id)
            return home.literal(definition)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return Fraction(str(self.literal(node.left))) / Fraction(str(self.literal(node.right)))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.literal(node.left) + self.literal(node.right)
        value = ast.literal_eval(node)
        return tuple(value) if isinstance(value, list) else value

    def resolve(self, name: str) -> tuple[Module, ast.expr]:
        """The module and expression that a module-level name stands for. Raises BadParameter when it stands for nothing readable."""
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
def _module(name: str) -> Module | None:
    top, _, rest = name.partition(".")
    found = importlib.util.find_spec(top)
    for root in (found.submodule_search_locations or []) if found else []:
        path = Path(root).joinpath(*rest.split(".")) if rest else Path(root)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return Module(file.read_text(encoding="utf-8"), str(file))
    return None


def hint_of(annotation: ast.expr | str | None, module: Module) -> Hint:
    """The Hint that an annotation (an expression, or its text) stands for."""
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


def _home(node: ast.expr, module: Module) -> Module | None:
    """The module in which a name is looked up: its own, or for `rv.Severity` the one imported as `rv`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in module.modules:
        return _module(module.modules[node.value.id])
    return module if isinstance(node, ast.Name) else None


def _members(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _members(node.left) + _members(node.right)
    return [node]


def _union(members: list[ast.expr], module: Module) -> Hint:
    wanted = [node for node in members if not (isinstance(node, ast.Constant) and node.value is None)]
    if len(wanted) != 1:
        return Hint(" or ".join(ast.unparse(node) for node in members))
    inner = hint_of(wanted[0], module)
    return Hint(f"{inner.text} or null", inner.base, inner.choices, inner.bounds, True, inner.sequence, inner.plugin)


def _subscript(node: ast.Subscript, module: Module) -> Hint:
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


def _bound(node: ast.expr, module: Module) -> tuple[str, float] | None:
    signs = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in signs:
        limits = [*node.args, *(word.value for word in node.keywords)]
        return signs[node.func.id], float(module.literal(limits[0]))
    return None


def coerce(value: Value, hint: Hint, what: str) -> Value:
    """`value` as the hint wants it. Raises BadParameter whose message begins with `what`."""
    if value is None:
        if hint.optional or hint.base == "any":
            return None
        raise BadParameter(f"{what} is null; it takes {hint.text}.")
    if hint.sequence:
        if not isinstance(value, tuple):
            raise BadParameter(f"{what} takes {hint.text}; a list here would be a sweep. Write one value as [[{show(value)}]].")
        return tuple(_scalar(item, hint, what) for item in value)
    if isinstance(value, tuple) and hint.base != "any":
        raise BadParameter(f"{what} is {show(value)}, a sequence; it takes {hint.text}.")
    return _scalar(value, hint, what)


def _scalar(value: Value, hint: Hint, what: str) -> Value:
    if hint.base in ("any", "plugin"):
        if hint.base == "plugin" and not isinstance(value, str | Spec):
            raise BadParameter(f"{what} is {show(value)}; it takes {hint.text}: a name, or {{name: {{…}}}}.")
        return value
    if hint.base == "literal":
        return _choice(value, hint, what)
    wanted = {"float": _number, "int": _whole, "bool": _truth, "str": _text}[hint.base](value)
    if wanted is None:
        raise BadParameter(f"{what} is {show(value)!r}; it takes {hint.text}.")
    for sign, limit in hint.bounds:
        number = float(wanted)  # type: ignore[arg-type]
        if not {">": number > limit, ">=": number >= limit, "<": number < limit, "<=": number <= limit}[sign]:
            raise BadParameter(f"{what} is {show(wanted)}; it takes {hint.text}.")
    return wanted


def _choice(value: Value, hint: Hint, what: str) -> Value:
    for choice in hint.choices:
        if (value == choice and isinstance(value, bool) == isinstance(choice, bool)) or (isinstance(value, str) and value == str(choice)):
            return choice  # type: ignore[no-any-return]
    guess = nearest(str(value), [str(choice) for choice in hint.choices]) if isinstance(value, str) else ""
    raise BadParameter(f"{what} is {show(value)}; it takes one of {hint.text}.{guess}")


def _number(value: Value) -> Value:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return float(value)
    if isinstance(value, float | Fraction):
        return value if float(value) - float(value) == 0 else None
    if isinstance(value, str):
        try:
            if "/" in value:
                return Fraction(value) if "." not in value else Fraction(value.split("/")[0]) / Fraction(value.split("/")[1])
            return _number(float(value))
        except (ValueError, ZeroDivisionError):
            return None
    return None


def _whole(value: Value) -> Value:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _truth(value: Value) -> Value:
    words = {"true": True, "false": False}
    if isinstance(value, str):
        return words.get(value.lower())
    return value if isinstance(value, bool) else None


def _text(value: Value) -> Value:
    return value if isinstance(value, str) else None
