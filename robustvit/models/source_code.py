"""The source code of a factory as part of its model's identity: its module, and what that imports from its own package or folder.

Nothing is imported here. Modules are found as files in the folder from which the factory's module came, so that neither the standard
library nor installed packages count; robustvit's own version is recorded with every file of Records.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from robustvit.spec.spec import digest

_INSTALLED = {"site-packages", "dist-packages"}  # folders where a neighbour is another package
_READ: dict[Path, tuple[Any, str]] = {}  # the text that a module was loaded from: an edit counts when it is loaded again


class SourceCode(NamedTuple):
    """digest: of the syntax trees without docstrings and comments; "" where there are none. unread: modules whose source cannot be read."""

    digest: str
    unread: tuple[str, ...]


def source_code(name: str) -> SourceCode:
    """The source of a module that was imported, and of the modules that it imports, directly or not, from its package or folder."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return SourceCode("", (name,))
    is_package = Path(file).stem == "__init__"
    home = Path(file).absolute().parents[name.count(".") + is_package]
    found: dict[str, Any] = {}
    unread: set[str] = set()
    waiting = list(_with_parents(name))
    while waiting:
        one = waiting.pop()
        if one in found or not _belongs(one, name, home):
            continue
        path = _file(one, home)
        tree = None if path is None else _parsed(one, path)
        if path is None or tree is None:
            unread |= {one} if one == name or _is_compiled(one, home) else set()
            continue
        found[one] = _plain(tree)
        waiting += _imported(tree, one, path.stem == "__init__")
    return SourceCode(digest(sorted(found.items())) if found else "", tuple(sorted(unread)))


def _with_parents(name: str) -> Iterator[str]:
    """`a.b.c` → a, a.b, a.b.c, all of which are loaded."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _belongs(one: str, name: str, home: Path) -> bool:
    top = one.partition(".")[0]
    return top != "robustvit" and (top == name.partition(".")[0] or not _INSTALLED & set(home.parts))


def _file(name: str, home: Path) -> Path | None:
    place = home.joinpath(*name.split("."))
    return next((path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()), None)


def _is_compiled(name: str, home: Path) -> bool:
    place = home.joinpath(*name.split("."))
    return place.parent.is_dir() and any(path.suffix in (".so", ".pyd", ".pyc") for path in place.parent.glob(f"{place.name}.*"))


def _parsed(name: str, path: Path) -> ast.Module | None:
    """The syntax tree of what was loaded; None for what Python could not read either."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    loaded, text = _READ.get(path, (None, ""))
    try:
        if loaded is None or loaded is not spec:
            text = path.read_text(encoding="utf-8")
            _READ[path] = spec, text
        return ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return None


def _imported(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """The full names of all that a module imports, anywhere in it; some are names within modules, which no file has."""
    here = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield from _with_parents(f"{base}.{alias.name}" if base else alias.name)


def _plain(node: Any) -> Any:
    """A syntax tree as lists and text, without docstrings, places and what is empty; the same under every version of Python."""
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    return [type(node).__name__, [[key, _plain(value)] for key, value in sorted(fields.items()) if value not in (None, [])]]
