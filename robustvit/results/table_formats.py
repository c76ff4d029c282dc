"""Any table as csv, json, Markdown or LaTeX."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustvit.errors import StoreFull, UsageError, nearest
from robustvit.records.disk import write_output
from robustvit.spec.given import check_path

_FORMULA, _QUOTED = re.compile(r"\A'*[=+\-@\t\r]"), re.compile(r"\A'(?='*[=+\-@\t\r])")
_BOLD = "% bold: the best, where a paired test shows that it differs from every other model's (McNemar; t-test for means; Holm, 5 %)\n"
_WIDEST = 6  # columns of numbers with intervals that a page of LaTeX holds
FORMATS = ("table", "csv", "json", "md", "latex")
_NOT_ESCAPED = {
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}  # signs that pandas leaves in LaTeX as they are


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

    directions: of columns of numbers, whether higher is better; groups: of columns, a heading above them. best: the numbers that differ
    from every other model's by a paired test, by the label of their row and their column.
    """

    title: str
    table: pd.DataFrame
    keys: int = 1
    directions: Mapping[str, bool] = {}
    groups: Mapping[str, str] = {}
    best: frozenset[tuple[int, str]] = frozenset()

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
    return "\n".join((f"**{_escaped(one.title)}**\n\n" if one.title else "") + markdown(_directed(one, ("↑", "↓"))) for one in pages)


def pages_latex(pages: Sequence[Page]) -> str:
    """Pages in LaTeX, with booktabs: arrows where directions are known, the best numbers bold, at most six columns of numbers."""
    return "\n".join(_latex(part) for page in pages for part in page.split([1] * (len(page.table.columns) - page.keys), _WIDEST))


def _latex(page: Page) -> str:
    table = _directed(page, ("↑", "↓")).astype(str).replace("\n", " ", regex=True)
    if page.groups:
        heads = [page.groups.get(str(name), "") for name in page.table.columns]
        table.columns = pd.MultiIndex.from_arrays([heads, list(table.columns)])
    styled = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    marked = [
        (place, at) for place, row in enumerate(table.index) for at, name in enumerate(page.table.columns) if (row, name) in page.best
    ]
    if marked:
        styles = np.full(table.shape, "", dtype=object)
        styles[tuple(zip(*marked, strict=True))] = "textbf:--rwrap;"
        styled = styled.apply(lambda _: styles, axis=None)
    shape = "l" * page.keys + "r" * (len(table.columns) - page.keys)
    text: str = styled.to_latex(hrules=True, column_format=shape, multicol_align="c")
    for sign, command in _NOT_ESCAPED.items():
        text = text.replace(sign, command)
    return (f"% {page.title}\n" if page.title else "") + (_BOLD if marked else "") + text


def _directed(page: Page, signs: tuple[str, str]) -> pd.DataFrame:
    """The table with a sign behind the columns whose direction is known."""
    named = {name: f"{name} {signs[0] if higher else signs[1]}" for name, higher in page.directions.items()}
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
