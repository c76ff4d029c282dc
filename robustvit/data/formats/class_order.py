"""The order in which class names are numbered, where nothing but the names gives it.

Torchvision sorts the names of class folders as text, timm in natural order (`class_2` before `class_10`), other tools without regard to
case. Where these differ, only the user can say which of them a model was trained with.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from robustvit.data.formats.listing import as_text, read_text
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, few, nearest

Order = Literal["text", "natural"]
_NAME_INDEX = re.compile(r"(?P<name>.*?\S)(?:\s*[,;:]\s*|\s+)(?P<index>\d+)")
_INDEX_NAME = re.compile(r"(?P<index>\d+)(?:\s*[,;:]\s*|\s+)(?P<name>\S.*)")


class ClassOrder(NamedTuple):
    """Class names in the order of their labels, and the message about an order that only the user can decide ("" where there is one)."""

    names: list[str]
    ambiguous: str = ""


def class_order(data: str, names: Sequence[str], order: Order | None, class_map: str | Path | None, place: Path) -> ClassOrder:
    """Numbers class names: by a class map, in the requested order, or, where neither is given, as text.

    data: the data set's name in messages. class_map: a file, itself or in `place`, see `read_class_map`. Raises BadParameter where both
    are given, and as `read_class_map` does.
    """
    if class_map is not None:
        if order is not None:
            raise BadParameter(f"data '{data}': order={order} and classes={class_map} both number the classes; leave one out.")
        return ClassOrder(read_class_map(data, class_map, names, place))
    if order == "natural":
        return ClassOrder(sorted(names, key=natural_key))
    return ClassOrder(sorted(names), "" if order == "text" else _ambiguity(data, names))


def natural_key(name: str) -> tuple[list[str | int], str]:
    """The key by which timm sorts names: digits as numbers, letters without case. Equal names are sorted as text."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _ambiguity(data: str, names: Sequence[str]) -> str:
    """Why the order of some names is ambiguous, with the first label that differs and what to write; "" where it is not."""
    ways: dict[str, Callable[[str], object]] = {
        "as text (as torchvision does)": lambda name: name,
        "in natural order (as timm does)": natural_key,
        "without regard to case": lambda name: (name.lower(), name),
    }
    orders = {way: sorted(names, key=key) for way, key in ways.items()}  # type: ignore[arg-type]
    differing = [label for label, found in enumerate(zip(*orders.values(), strict=True)) if len(set(found)) > 1]
    if not differing:
        return ""
    label = differing[0]
    shown = ", ".join(f"{way} it is '{as_text(found[label])}'" for way, found in orders.items())
    return (
        f"data '{data}': the names of its {len(names)} classes do not say which is label {label}: sorted {shown}. Write the order that the "
        f"model was trained with: add ?order=natural or ?order=text to the data's address, or ?classes=FILE with one class name a line in "
        "the order of the labels."
    )


def read_class_map(data: str, class_map: str | Path, names: Sequence[str], place: Path) -> list[str]:
    """The names in the order of the labels that a class map gives them.

    class_map: a file, itself or in `place`: one name a line in the order of the labels (as timm has it; after a first word, it may be
    described), `name index` or `index name` a line, or JSON: a list, `{name: index}` or `{index: name}` (a name may be a list, such as a
    wnid and a word). Of these forms the one is taken whose names are exactly `names`, numbered from 0.
    Raises DataMissing where there is no such file; DataUnreadable, with names, where names are missing, unknown, repeated, not numbered
    from 0, or numbered in two ways.
    """
    path = next((one for one in (Path(class_map).expanduser(), place / class_map) if one.is_file()), None)
    if path is None:
        raise DataMissing(f"data '{data}': there is no class map {class_map}, neither here nor in {place}.")
    raw = {as_text(name): name for name in names}
    forms = [form for form in _forms(path, read_text(path)) if form.names]
    fitting = [form.in_order() for form in forms if not form.problems(list(raw))]
    if any(found != fitting[0] for found in fitting):
        raise DataUnreadable(f"data '{data}': the class map {path} can be read as 'name index' and as 'index name'; give one name a line.")
    if not fitting:
        closest = max(forms, key=lambda form: len(raw.keys() & set(form.names)), default=_Form([]))
        problems, hint = "; it ".join(closest.problems(list(raw))), closest.hint(list(raw))
        raise DataUnreadable(
            f"data '{data}': the class map {path} must give each of the {len(raw)} classes one label; it {problems}.{hint}"
        )
    return [raw[name] for name in fitting[0]]


class _Form(NamedTuple):
    """One way to read a class map: its names, with their labels where it gives numbers."""

    names: list[str]
    labels: list[int] | None = None

    def in_order(self) -> list[str]:
        """The names in the order of their labels."""
        if self.labels is None:
            return self.names
        return [name for _, name in sorted(zip(self.labels, self.names, strict=True))]

    def problems(self, names: Sequence[str]) -> list[str]:
        """Why this does not number `names`; nothing where it does."""
        absent = [name for name in names if name not in set(self.names)]
        unknown = [name for name in self.names if name not in set(names)]
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        found = [f"lacks {len(absent)}: {few(absent)}"] * bool(absent)
        found += [f"names {len(unknown)} that are no class here: {few(unknown)}"] * bool(unknown)
        found += [f"repeats {len(repeated)}: {few(repeated)}"] * bool(repeated)
        if not found and self.labels is not None and sorted(self.labels) != list(range(len(names))):
            found = [f"must number them 0 … {len(names) - 1}, each once"]
        return found

    def hint(self, names: Sequence[str]) -> str:
        """The nearest of the names that are missing to the first that is unknown."""
        unknown = [name for name in self.names if name not in set(names)]
        return nearest(unknown[0], set(names) - set(self.names)) if unknown else ""


def _forms(path: Path, text: str) -> Iterator[_Form]:
    """The ways in which a class map can be read."""
    if text.lstrip()[:1] in ("[", "{"):
        yield from _forms_of_json(path, text)
        return
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    yield _Form(lines)
    numbered = [match for pattern in (_NAME_INDEX, _INDEX_NAME) if all(match := [pattern.fullmatch(line) for line in lines])]
    for matches in numbered:
        found = [match for match in matches if match is not None]
        yield _Form([match["name"] for match in found], [int(match["index"]) for match in found])
    if not numbered:
        yield _Form([re.split(r"[\s,;]", line)[0] for line in lines])


def _forms_of_json(path: Path, text: str) -> Iterator[_Form]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataUnreadable(f"the class map {path} is no JSON: {error}.") from error
    if isinstance(found, list):
        yield _Form([str(name) for name in found])
        return
    if all(type(value) is int for value in found.values()):
        yield _Form(list(found), list(found.values()))
    elif all(key.isdecimal() for key in found):
        values = [value if isinstance(value, list) else [value] for value in found.values()]
        for place in range(min(map(len, values))):
            yield _Form([str(value[place]) for value in values], [int(key) for key in found])
