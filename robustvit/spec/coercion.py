"""Converts the values of suites and command lines to the types that a plug-in's signature declares."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from robustvit.errors import BadParameter, nearest
from robustvit.spec.given import check_whole
from robustvit.spec.schema import Hint
from robustvit.spec.spec import Spec, Value, show
from robustvit.spec.written.relative import is_relative

LARGEST_SEED = 2**63 - 1  # tables hold seeds as signed numbers of 64 bits
_LONGEST = 200  # characters of a value that messages repeat


def check_seed(seed: int, what: str = "--seed") -> None:
    """Raises BadParameter for a seed that tables cannot hold. what: where it was given."""
    check_whole(seed, what, 0, LARGEST_SEED)


def coerce(value: Value, hint: Hint, what: str) -> Value:
    """Converts `value` to the type of the hint: "4/255" to a Fraction, "1e-3" to a float.

    Raises BadParameter where that is impossible. what: the beginning of its message.
    """
    if value is None:
        if hint.optional or hint.base == "any":
            return None
        raise BadParameter(f"{what} is null; it takes {hint.text}.")
    if hint.sequence:
        if not isinstance(value, tuple):
            one = _shown(value)
            raise BadParameter(
                f"{what} takes {hint.text}, and is one value: in a suite, where a list is a sweep, write [[{one}]], in an address [{one}]."
            )
        return tuple(_scalar(item, hint, what) for item in value)
    if isinstance(value, tuple) and hint.base != "any":
        raise BadParameter(f"{what} is {_shown(value)}, a sequence; it takes {hint.text}.")
    return _scalar(value, hint, what)


def _scalar(value: Value, hint: Hint, what: str) -> Value:
    if hint.base in ("any", "plugin"):
        if hint.base == "plugin" and not isinstance(value, str | Spec):
            raise BadParameter(f"{what} is {_shown(value)}; it takes {hint.text}: a name, or {{name: {{…}}}}.")
        return value
    if hint.base == "literal":
        return _choice(value, hint, what)
    if hint.base == "int" and is_relative(value):  # a number once the image and the model are known
        return value
    wanted = {"float": _number, "int": _whole, "bool": _truth, "str": _text}[hint.base](value)
    if wanted is None:
        raise BadParameter(f"{what} is {_shown(value)!r}; it takes {hint.text}.")
    for sign, limit in hint.bounds:
        number: Any = wanted
        if not {">": number > limit, ">=": number >= limit, "<": number < limit, "<=": number <= limit}[sign]:
            raise BadParameter(f"{what} is {_shown(wanted)}; it takes {hint.text}.")
    return wanted


def _shown(value: Value) -> str:
    """A value as messages repeat it: its beginning, where it is long."""
    text = show(value)
    return text if len(text) <= _LONGEST else f"{text[:40]}… ({len(text):,} characters)"


def _choice(value: Value, hint: Hint, what: str) -> Value:
    for choice in hint.choices:
        if (value == choice and isinstance(value, bool) == isinstance(choice, bool)) or (isinstance(value, str) and value == str(choice)):
            return choice  # type: ignore[no-any-return]
    guess = nearest(str(value), [str(choice) for choice in hint.choices]) if isinstance(value, str) else ""
    raise BadParameter(f"{what} is {_shown(value)}; it takes one of {hint.text}.{guess}")


def _number(value: Value) -> Value:
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int):
            return float(value)
        if isinstance(value, float | Fraction):
            return value if float(value) - float(value) == 0 else None
        if isinstance(value, str) and "/" in value:
            upper, lower = value.split("/")
            return _number(Fraction(upper) / Fraction(lower))
        return _number(float(value)) if isinstance(value, str) else None
    except (ValueError, ZeroDivisionError, OverflowError):  # no number, or one beyond all floats
        return None


def _whole(value: Value) -> Value:
    """A whole number of 64 bits, as tables and tensors hold it."""
    if isinstance(value, str):
        try:
            return _whole(int(value))
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer():
        return _whole(int(value))
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_SEED else None


def _truth(value: Value) -> Value:
    words = {"true": True, "false": False}
    if isinstance(value, str):
        return words.get(value.lower())
    return value if isinstance(value, bool) else None


def _text(value: Value) -> Value:
    return value if isinstance(value, str) else None
