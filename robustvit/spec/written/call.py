"""Names with arguments as people write them on a command line: `tome(r=8)`, `pgd?eps=4/255&steps=40`."""

from __future__ import annotations

import re

from robustvit.errors import BadParameter
from robustvit.spec.given import query_pairs
from robustvit.spec.spec import Spec, Value

_FORM = "NAME(key=value, key=value), or NAME?key=value&key=value"
_OPENS, _CLOSES, _QUOTE = "([", ")]", '"'


def called(text: str, what: str) -> Spec:
    """Parses `NAME`, `NAME(key=value, key=value)` or `NAME?key=value&key=value`, as written on a command line, to a Spec.

    A value that is a sequence is written `[1, 2, 3]` in brackets, `1,2,3` after a question mark; in parentheses a value may itself have
    some, or a query: `NAME(calibration=digits?split=train)`. One with commas or parentheses of its own that do not pair is written in
    double quotation marks: `NAME(teacher="file:a.safetensors?kwargs=depth=2,num_heads=3")`. what: the beginning of the message of a
    BadParameter.
    """
    written = re.fullmatch(r"\s*([^()?]+?)\s*\((.*)\)\s*", text, re.DOTALL)
    if not written and "(" in text.partition("?")[0]:
        raise BadParameter(
            f"{what} '{text}': its parenthesis is not closed, or something follows it; write {_FORM}, and each one by itself."
        )
    pairs = _in_parentheses(written[2], text, what) if written else _after_question_mark(text, what)
    name = written[1] if written else text.partition("?")[0]
    return Spec(name, tuple(sorted(pairs.items())))


def split_outside(text: str, at: str) -> list[str]:
    """The parts of a text between matches of the pattern `at` that lie outside all parentheses, brackets and double quotation marks.

    Raises ValueError where these are not closed, or closed and not open.
    """
    parts, begin, open_ = [], 0, ""
    for place, letter in enumerate(text):
        if not open_ and place >= begin and (found := re.compile(at).match(text, place)):
            parts.append(text[begin:place])
            begin = found.end()
        elif letter == _QUOTE:
            open_ = open_[:-1] if open_.endswith(_QUOTE) else open_ + letter
        elif open_.endswith(_QUOTE):
            continue
        elif letter in _OPENS:
            open_ += letter
        elif letter in _CLOSES:
            if not open_ or _OPENS.index(open_[-1]) != _CLOSES.index(letter):
                raise ValueError(f"'{letter}' closes nothing")
            open_ = open_[:-1]
    if open_:
        raise ValueError(f"'{open_[-1]}' is not closed")
    return [*parts, text[begin:]]


def _in_parentheses(arguments: str, text: str, what: str) -> dict[str, Value]:
    try:
        parts = [part.strip() for part in split_outside(arguments, ",") if part.strip()]
    except ValueError as error:
        raise BadParameter(f"{what} '{text}': {error}; write {_FORM}.") from error
    found: dict[str, Value] = {}
    for part in parts:
        key, sign, value = (side.strip() for side in part.partition("="))
        if not sign or not key:
            raise BadParameter(f"{what} '{text}': '{part}' is no key=value; write {_FORM}.")
        if key in found:
            raise BadParameter(f"{what} '{text}': the parameter '{key}' occurs twice; give one value.")
        if len(value) > 1 and value[0] == value[-1] == _QUOTE:
            found[key] = value[1:-1]
            continue
        listed = re.fullmatch(r"\[(.*)\]", value, re.DOTALL)
        found[key] = tuple(item.strip() for item in listed[1].split(",") if listed[1].strip()) if listed else value
    return found


def _after_question_mark(text: str, what: str) -> dict[str, Value]:
    _, mark, query = text.partition("?")
    if mark and not query:
        raise BadParameter(f"{what} '{text}' has nothing after its '?'; write {_FORM}.")
    pairs = query_pairs(query, f"{what} '{text}'", _FORM).items()
    return {key: tuple(value.split(",")) if "," in value else value for key, value in pairs}
