"""Any table as csv, json or Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustvit.errors import StoreFull, UsageError, nearest
from robustvit.records.disk import write_output

FORMATS = ("table", "csv", "json", "md")


def check_format(name: str) -> None:
    """Raises UsageError for a format that tables are not written in."""
    check_choice("--format", name, FORMATS)


def check_choice(option: str, name: str, choices: Sequence[str]) -> None:
    """Raises UsageError, with the nearest choice, for a value that an option does not take."""
    if name not in choices:
        raise UsageError(f"{option} '{name}' is unknown.{nearest(name, choices)} It takes {', '.join(choices)}.")


def format_table(table: pd.DataFrame, page: pd.DataFrame, format: str, sentence: str = "") -> str:
    """A table as text: csv and json hold all of it (twelve digits, null for no number), md its page. A sentence follows, except in csv.

    json: a list of rows, or {"rows": …, "told": sentence} where there is a sentence.
    """
    check_format(format)
    if format == "csv":
        return table.to_csv(index=False, float_format="%.12g", lineterminator="\n")
    if format == "json":
        rows = json.loads(table.to_json(orient="records", double_precision=10))
        return json.dumps({"rows": rows, "told": sentence} if sentence else rows, indent=1, ensure_ascii=False) + "\n"
    return markdown(page) + (f"\n{sentence}\n" if sentence else "")


def markdown(page: pd.DataFrame) -> str:
    """A table of text in Markdown."""
    lines = [list(page.columns), ["---"] * len(page.columns), *page.astype(str).to_numpy().tolist()]
    return "".join("| " + " | ".join(_escaped(cell) if i != 1 else cell for cell in line) + " |\n" for i, line in enumerate(lines))


def _escaped(text: object) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", str(text)).replace("\n", " ")


def save_file(content: str | bytes, path: Path) -> Path:
    """Writes a file whole or not at all, text as UTF-8, or to a device or pipe; returns its path. Raises StoreFull where that cannot be."""
    try:
        write_output(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise StoreFull(f"cannot write {path}: {error.strerror or error}. Give another place.") from error
    return path
