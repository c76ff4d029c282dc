"""Any table as csv, json, Markdown or LaTeX."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from robustvit.errors import StoreFull, UsageError, nearest
from robustvit.records.disk import write_output
from robustvit.results.latex.set_text import COLUMN_GAP, LINE, latex_text
from robustvit.results.latex.tabulars import TextColumn, tabular, wrapped
from robustvit.spec.given import check_path
from robustvit.spec.written.words import with_spaces

_FORMULA, _QUOTED = re.compile(r"\A'*[=+\-@\t\r]"), re.compile(r"\A'(?='*[=+\-@\t\r])")
_BOLD = "Bold: the best, where a paired test shows that it differs from every other model's (McNemar; t-test for means; Holm, 5 %)"
FORMATS = ("table", "csv", "json", "md", "latex")


def check_format(name: str) -> None:
    """Raises UsageError for a format that tables are not written in."""
    check_choice("--format", name, FORMATS)


def check_choice(option: str, name: str, choices: Sequence[str]) -> None:
    """Raises UsageError, with the nearest choice, for a value that an option does not take."""
    if name not in choices:
        raise UsageError(f"{option} '{name}' is unknown.{nearest(name, choices)} It takes {', '.join(choices)}.")


def format_table(table: pd.DataFrame, page: pd.DataFrame, format: str, sentence: str = "") -> str:
    """A table as text: csv and json hold all of it (twelve digits, null for no number), md and latex its page. A sentence follows,
    except in csv and latex.

    json: a list of rows, or {"rows": …, "told": sentence} where there is a sentence.
    """
    if format == "json" and sentence:
        return json.dumps({"rows": _records(table), "told": sentence}, indent=1, ensure_ascii=False) + "\n"
    text = format_pages(table, [Page("", page, len(page.columns))], format)
    return text + (f"\n{sentence}\n" if sentence and format not in ("csv", "latex") else "")


def format_pages(tidy: pd.DataFrame, pages: Sequence[Page], format: str) -> str:
    """Pages as text: csv and json hold their numbers in tidy form (twelve digits, null for no number), md and latex the pages."""
    check_format(format)
    if format == "csv":
        return csv_text(tidy, "%.12g")
    if format == "json":
        return json.dumps(_records(tidy), indent=1, ensure_ascii=False) + "\n"
    return pages_latex(pages) if format == "latex" else pages_markdown(pages)


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(table.to_json(orient="records", double_precision=10))
    return found


def csv_text(table: pd.DataFrame, float_format: str) -> str:
    """A table as CSV, in which no cell is a formula: text that a spreadsheet would compute (`=…`, `+…`, `-…`, `@…`) begins with `'`."""
    return _edited(table, _FORMULA, r"'\g<0>").to_csv(index=False, float_format=float_format, lineterminator="\n")


def without_quotes(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read from such CSV, with its texts as they were."""
    return _edited(table, _QUOTED, "")


def _edited(table: pd.DataFrame, pattern: re.Pattern[str], other: str) -> pd.DataFrame:
    """The table with a pattern replaced in its texts."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    return table.assign(**texts.map(lambda cell: pattern.sub(other, cell) if isinstance(cell, str) else cell))


class Page(NamedTuple):
    """A table of text with its title. The first `keys` columns name its rows.

    directions: of columns of numbers, whether higher is better, None for neither; groups: of columns, a heading above them. best: the
    numbers that differ from every other model's by a paired test, by the label of their row and their column. higher_is_better: of all its
    numbers, where they are of one metric.
    """

    title: str
    table: pd.DataFrame
    keys: int = 1
    directions: Mapping[str, bool | None] = {}
    groups: Mapping[str, str] = {}
    best: frozenset[tuple[int, str]] = frozenset()
    higher_is_better: bool | None = None

    def split(self, widths: Sequence[int], widest: int) -> Iterator[Page]:
        """Parts with the same keys whose columns of numbers, of these widths, are together at most `widest`, or a single one."""
        keys, columns = list(self.table.columns[: self.keys]), list(self.table.columns[self.keys :])
        parts, free = [[*columns[:1]]], widest - sum(widths[:1])
        for column, width in zip(columns[1:], widths[1:], strict=True):
            parts, free = ([*parts[:-1], [*parts[-1], column]], free - width) if width <= free else ([*parts, [column]], widest - width)
        for part in parts:
            table = self.table[[*keys, *part]]
            yield self._replace(table=table[(table[part] != "").any(axis=1)] if len(parts) > 1 else table)


def markdown(page: pd.DataFrame) -> str:
    """A table of text in Markdown."""
    lines = [list(page.columns), ["---"] * len(page.columns), *page.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(_escaped(cell) if i != 1 else cell for cell in line) + " |\n" for i, line in enumerate(lines))


def pages_markdown(pages: Sequence[Page]) -> str:
    """Pages in Markdown, each under its title."""
    return "\n".join((f"**{_escaped(_titled(one))}**\n\n" if one.title else "") + markdown(_directed(one)) for one in pages)


def pages_latex(pages: Sequence[Page]) -> str:
    """Pages in LaTeX, with booktabs: floats as wide as a line of `article`, with arrows where directions are known, the best numbers bold.

    Each part of a page has its title in its caption, and so has what is the same in every row.
    """
    return "\n".join(text for page in pages for text in _latex(page))


def _latex(page: Page) -> Iterator[str]:
    """The parts of a page. Where the first column tells its rows apart, what else is said of them is in the first part alone."""
    page, shared = _without_shared(page)
    words = [name for at, name in enumerate(page.table.columns) if at < page.keys or (page.directions and name not in page.directions)]
    if page.directions and page.table.iloc[:, 0].is_unique:
        page = page._replace(keys=1)
    columns = [_column(page, at, words) for at in range(len(page.table.columns))]
    free = LINE + COLUMN_GAP - sum(one.width for one in columns[: page.keys])
    parts = list(page.split([math.ceil(one.width) for one in columns[page.keys :]], math.floor(free)))
    for place, part in enumerate(parts):
        own = [_column(part, at, words) for at in range(len(part.table.columns))]
        number = f" ({place + 1} of {len(parts)})" if len(parts) > 1 else ""
        told = [(_titled(page) or "Summary") + number, *shared, *([_BOLD] if any(any(one.bold) for one in own) else [])]
        yield tabular(own, " ".join(latex_text(text.rstrip(".") + ".") for text in told if text))


def _column(page: Page, at: int, words: Sequence[object]) -> TextColumn:
    name = page.table.columns[at]
    label = with_spaces(str(name)) if name in words and at < page.keys else str(name)
    head = label + (" ↑" if page.directions[name] else " ↓") if name in page.directions else label
    cells = tuple(str(cell) for cell in page.table.iloc[:, at])
    bold = tuple((row, name) in page.best for row in page.table.index)
    found = TextColumn(head, page.groups.get(str(name), ""), cells, bold, name not in words)
    return found if found.number else wrapped(found)


def _without_shared(page: Page) -> tuple[Page, list[str]]:
    """The page without columns of text that are the same in every row, the first aside, and sentences that tell what they say."""
    texts = [name for at, name in enumerate(page.table.columns) if at and name not in page.directions and page.directions]
    same = [name for name in texts if page.table[name].nunique() == 1]
    told = ", ".join(f"{with_spaces(str(name))} {page.table[name].iloc[0]}" for name in same)
    keys = page.keys - sum(name in page.table.columns[: page.keys] for name in same)
    return page._replace(table=page.table.drop(columns=same), keys=keys), [f"In every row: {told}"] if told else []


_SIGNS = {True: " ↑", False: " ↓", None: ""}


def _titled(page: Page) -> str:
    """The title of a page, with a sign behind it where all its numbers have one direction."""
    return page.title + _SIGNS[page.higher_is_better] if page.title else ""


def _directed(page: Page) -> pd.DataFrame:
    """The table with a sign behind the columns whose direction is known."""
    named = {name: f"{name}{_SIGNS[higher]}" for name, higher in page.directions.items()}
    return page.table.rename(columns=named)


def _escaped(text: object) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", str(text)).replace("\n", " ")


def save_file(content: str | bytes, path: Path) -> Path:
    """Writes a file whole or not at all, text as UTF-8, or to a device or pipe; returns its path. Raises StoreFull where that cannot be."""
    check_path(path, "the file to write")
    try:
        write_output(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror or error}. Give another place.") from error
    return path
