"""Any table as csv, json, Markdown or LaTeX."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustvit.errors import StoreFull, UsageError, nearest
from robustvit.records.disk import write_output
from robustvit.spec.given import check_path

_FORMULA, _QUOTED = re.compile(r"\A'*[=+\-@\t\r]"), re.compile(r"\A'(?='*[=+\-@\t\r])")
FORMATS = ("table", "csv", "json", "md", "latex")
_NOT_ESCAPED = {"→": r"$\rightarrow$", "<": r"\textless{}", ">": r"\textgreater{}"}  # signs that pandas leaves in LaTeX as they are


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
    check_format(format)
    if format == "csv":
        return csv_text(table, "%.12g")
    if format == "json":
        rows = json.loads(table.to_json(orient="records", double_precision=10))
        return json.dumps({"rows": rows, "told": sentence} if sentence else rows, indent=1, ensure_ascii=False) + "\n"
    if format == "latex":
        return latex(page)
    return markdown(page) + (f"\n{sentence}\n" if sentence else "")


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


def markdown(page: pd.DataFrame) -> str:
    """A table of text in Markdown."""
    lines = [list(page.columns), ["---"] * len(page.columns), *page.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(_escaped(cell) if i != 1 else cell for cell in line) + " |\n" for i, line in enumerate(lines))


def latex(page: pd.DataFrame) -> str:
    """A table of text in LaTeX, with booktabs."""
    plain = page.astype(str).replace("\n", " ", regex=True)
    styled = plain.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    text: str = styled.to_latex(hrules=True)
    for sign, command in _NOT_ESCAPED.items():
        text = text.replace(sign, command)
    return text


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
