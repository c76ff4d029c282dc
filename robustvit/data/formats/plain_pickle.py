"""Pickles of plain data, read without running what they ask for."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

# The classes and functions in a pickle of numpy arrays, under their names before and since numpy 2.
NUMPY = frozenset({
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
})  # fmt: skip


def load_plain(content: bytes, what: str, standing_for: Mapping[tuple[str, str], Callable[..., Any]] | None = None, **options: Any) -> Any:
    """What a pickle of numbers, text and numpy arrays holds; every other name in it is refused before it is looked up.

    standing_for: further names, (module, name), that such a pickle may contain, and what is called in their place. what: it should be, for
    the message. options: `encoding`, as of pickle.Unpickler. Raises pickle.UnpicklingError for any other name, and what a damaged pickle
    makes pickle.Unpickler raise.
    """
    return _Plain(content, what, standing_for or {}, **options).load()


class _Plain(pickle.Unpickler):
    def __init__(self, content: bytes, what: str, standing_for: Mapping[tuple[str, str], Callable[..., Any]], **options: Any) -> None:
        super().__init__(io.BytesIO(content), **options)
        self.what, self.standing_for = what, standing_for

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for. Raises UnpicklingError for all but those allowed."""
        if (module, name) in self.standing_for:
            return self.standing_for[module, name]
        if (module, name) not in NUMPY:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which {self.what} does not need")
        return super().find_class(module, name)
