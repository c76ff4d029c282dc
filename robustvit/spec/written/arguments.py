"""The arguments of a model's constructor as people write them: `img_size=32,depths=[2,2]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from robustvit.errors import BadParameter
from robustvit.spec.written.call import split_outside

_MOST, _MOST_OF = 65_536, {"depth": 1_000, "img_size": 16_384}  # of numbers in a constructor's arguments, which are built at once

Argument: TypeAlias = "bool | int | float | str | tuple[Argument, ...] | None"


def parse_kwargs(text: str) -> dict[str, Argument]:
    """Constructor arguments written `img_size=32,depths=[2,2],pad_type='same'`: numbers, true, false, null, text, or several in brackets.

    Never evaluated. Raises BadParameter for a part without `=`, a key that is no name, a repeated key, brackets that are not closed, and
    numbers beyond what anybody builds.
    """
    found: dict[str, Argument] = {}
    for part in filter(None, (part.strip() for part in _parts(text))):
        key, sign, value = (side.strip() for side in part.partition("="))
        if not sign or not key.isidentifier():
            raise BadParameter(f"'{part}' in the model arguments '{text}' is not NAME=VALUE; write img_size=32,depth=6.")
        if key in found:
            raise BadParameter(f"the model argument '{key}' occurs twice in '{text}'.")
        found[key] = _argument(value)
        if not all(abs(number) <= _MOST_OF.get(key, _MOST) for number in _numbers(found[key])):
            raise BadParameter(f"the model argument '{key}' is {value}; it takes numbers up to {_MOST_OF.get(key, _MOST):,}.")
    return found


def write_kwargs(arguments: Mapping[str, Argument]) -> str:
    """The canonical spelling of constructor arguments: sorted by name, without spaces."""
    return ",".join(f"{key}={_shown_argument(value)}" for key, value in sorted(arguments.items()))


def _parts(text: str) -> list[str]:
    try:
        return split_outside(text, ",")
    except ValueError as error:
        raise BadParameter(f"the model arguments '{text}': {error}; write img_size=32,depths=[2,2].") from error


def _numbers(value: Argument) -> list[int | float]:
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int | float) else []


def _shown_argument(value: Argument) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(map(_shown_argument, value)) + "]"
    constants = {True: "true", False: "false", None: "null"}
    return constants[value] if value is None or isinstance(value, bool) else str(value)


def _argument(value: str) -> Argument:
    if value.startswith("[") and value.endswith("]"):
        return tuple(_argument(part.strip()) for part in _parts(value[1:-1]) if part.strip())
    constants: dict[str, Argument] = {"true": True, "false": False, "null": None}
    if value.lower() in constants:
        return constants[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
