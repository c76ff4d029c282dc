"""Names that stand for code of the user's own, `package.module:function`, and who may use them.

The command line and calls from Python name code. Suite files do where their reader allows it, stores never: they come from others.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar

from robustvit.errors import CodeRefused
from robustvit.spec.spec import Spec, Value, at_place

CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PLACES = frozenset({"file", "folder", "npz", "kept"})  # `file:PATH` is no module

_way: ContextVar[str] = ContextVar("way", default="")


@contextlib.contextmanager
def refusing_code(way: str) -> Iterator[None]:
    """Refuses names of code for the length of a block. way: how to use them all the same, for the message; "" allows them."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def refuse_code(name: str, where: str = "") -> None:
    """Raises CodeRefused where names of code are refused now; called before whatever such a name stands for is imported."""
    if _way.get():
        raise CodeRefused(f"{at_place(where)}'{name}' is the name of code, which nothing but you may have run. {_way.get()}")


def names_code(text: str) -> bool:
    """Whether a text, as a command line takes it, begins with the name of code."""
    head = re.split(r"[?(+]", text.strip(), maxsplit=1)[0].strip()
    return bool(CODE.fullmatch(head)) and head.partition(":")[0] not in _PLACES


def code_names(value: Value) -> Iterator[str]:
    """The names of code in a Spec and in those nested in it, as they are written."""
    if isinstance(value, tuple):
        for item in value:
            yield from code_names(item)
    if not isinstance(value, Spec):
        return
    if names_code(value.name):
        yield value.name
    if value.name == "factory":
        yield str(value.get("target"))
    for _, item in value.params:
        yield from code_names(item)
