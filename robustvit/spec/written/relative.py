"""Whole numbers that are written relative to the image or the model: `1 patch`, `19/224 of the side`, `96/196 of the patches`."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from robustvit.errors import BadParameter
from robustvit.spec.spec import Spec, Value

FORMS = "`1 patch`, `1/2 patch`, `1/14 of the side` or `1/2 of the patches`"
_FORM = re.compile(r"\s*(\d+(?:/[1-9]\d*)?)\s*(patch|patches|of the side|of the patches)\s*")


def is_relative(value: Value) -> bool:
    """Whether a value is such a text."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


def absolute(text: str, side: int, patch: int, patches: int) -> int:
    """The number that a text stands for. side: the image's shorter one in pixels; patch: the side of a patch; patches: how many there are.

    Rounded to the nearest whole number, and at least 1 unless it is 0. Raises BadParameter for another text.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadParameter(f"'{text}' is no number; relative ones are {FORMS}.")
    share, unit = Fraction(found[1]), found[2]
    exact = share * {"patch": patch, "patches": patch, "of the side": side, "of the patches": patches}[unit]
    return max(int(exact + Fraction(1, 2)), 1 if exact else 0)


def made_absolute(spec: Spec, number: Callable[[str], int]) -> Spec:
    """A Spec and those nested in it with relative values as the numbers that they stand for."""
    changed: dict[str, Value] = {}
    for key, value in spec.params:
        made: Value = made_absolute(value, number) if isinstance(value, Spec) else number(str(value)) if is_relative(value) else value
        if made != value:
            changed[key] = made
    return spec.with_params(**changed) if changed else spec
