"""Tables on the terminal: results go to `out`, messages about them to `err`."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console
from rich.table import Table
from typer import Exit

from robustvit.cli.exit_codes import CELLS_FAILED
from robustvit.errors import few

if TYPE_CHECKING:
    from robustvit.results.table_formats import Page

_COLON = ": "
_UNSEEN = ("Cc", "Cf", "Cs")  # categories of characters that move the cursor, hide or turn what is printed
_ENDLESS = re.compile(r"\S{1000,}")
_HINT = ". The suite gradient-honesty has them."

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)


def escape(text: str) -> str:
    """Text of others as a terminal can show it: without markup, control characters as `\\x1b`, words of thousands of characters cut."""
    visible = "".join(char if char in "\n\t" or unicodedata.category(char) not in _UNSEEN else ascii(char)[1:-1] for char in text)
    return markup.escape(_ENDLESS.sub(lambda word: f"{word[0][:60]}… ({len(word[0]):,} characters)", visible))


def _models(rows: Any) -> str:
    """The models of some rows of a leaderboard with their transforms, the first few of them."""
    names = rows["model"] + rows["transforms"].map(lambda text: f" → {text}" if text else "")
    return few(list(dict.fromkeys(names)))


def print_undefined(reasons: Mapping[str, str]) -> None:
    """Prints which cells have no value whatever is computed, and why."""
    for name, reason in reasons.items():
        err.print(f"[yellow]undefined:[/] {escape(name)}: {escape(reason)}", highlight=False, soft_wrap=True)


def print_summary(summary: Any, title: str) -> None:
    """Prints one line per model where that fits the terminal; else one line per number and a column per model, in groups that fit."""
    texts = [[str(value) for value in row] for row in summary.itertuples(index=False)]
    lengths = [max(map(len, column)) for column in zip(map(str, summary.columns), *texts, strict=True)]
    if sum(lengths) + 3 * len(lengths) < out.width:
        print_frame(summary, title)
        return
    fitting = max(1, (out.width - 30) // (max(map(len, (text for row in texts for text in row))) + 3))
    for start in range(0, len(texts), fitting):
        table = Table(title=title, title_justify="left", show_header=False)
        for _ in range(1 + len(texts[start : start + fitting])):
            table.add_column(overflow="fold")
        for place, name in enumerate(summary.columns):
            values = [escape(row[place]) for row in texts[start : start + fitting]]
            if not any(values):
                continue
            table.add_row(escape(str(name).replace("_", " ")), *values, end_section=name == "n", style="bold" if place == 0 else None)
        out.print(table)


def print_pages(pages: Iterable[Page], title: str) -> None:
    """Prints the pages of a leaderboard, each as wide as the terminal or in parts that are: nothing is cut."""
    for page in pages:
        if page.title:
            print_page(page)
        else:
            print_summary(page.table, title)


def print_page(page: Page) -> None:
    """Prints a page, its columns in groups that fit the terminal beside those that name the rows."""
    texts = [list(map(str, column)) for _, column in page.table.items()]
    widths = [3 + max(map(len, (str(name), *column))) for name, column in zip(page.table.columns, texts, strict=True)]
    free = out.width - 1 - sum(widths[: page.keys])
    for part in page.split(widths[page.keys :], free):
        named = {name: str(name).replace("_", " ") for name in part.table.columns[: page.keys]}
        print_frame(part.table.rename(columns=named), part.title, words=False)  # other heads are labels, or in words


def print_json(value: Any, output: Path | None = None) -> None:
    """Prints a value as JSON, or writes it into a file; what is no JSON is its text."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if output is None:
        print(text)
        return
    from robustvit.results.table_formats import save_file

    err.print(f"Wrote {save_file(text + chr(10), output)}", highlight=False, soft_wrap=True)


def print_table(table: Any, page: Any, title: str, format: str, output: Path | None, sentence: str = "") -> None:
    """Prints a table on the terminal, or writes it in a format, or into a file."""
    from robustvit.results.table_formats import format_table, save_file

    if format == "table" and output is None:
        if len(page):
            print_frame(page, title)
        if sentence:
            out.print(escape(sentence), highlight=False, soft_wrap=True)
        return
    text = format_table(table, page, "md" if format == "table" else format, sentence)
    if output is None:
        sys.stdout.write(text)
    else:
        err.print(f"Wrote {save_file(text, output)}", highlight=False, soft_wrap=True)


def print_frame(frame: Any, title: str, right: Container[str] = (), *, words: bool = True) -> None:
    """Prints a DataFrame as a table, numbers aligned to the right, and columns of text that are in `right`.

    words: whether heads are identifiers, which are printed in words.
    """
    table = Table(title=title or None, title_justify="left")
    for name in frame.columns:
        numeric = frame[name].dtype.kind in "fiu" or name in right
        table.add_column(
            escape(str(name).replace("_", " ") if words else str(name)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(_shown(value)) for value in row))
    out.print(table)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}" if 0 < abs(value) < 1 else f"{value:.1f}"
    return "" if value is None else str(value)


def print_gradients(board: Any) -> None:
    """Why the accuracy under attack of a model is not reliable yet, each reason once."""
    from robustvit.results.gradient_masking import verdict_word

    doubted = board[~board["gradients"].map(verdict_word).isin(("", "honest"))]
    for text, rows in doubted.groupby("gradients", sort=False):
        suspect = verdict_word(text) == "suspect"
        mark, hint = ("[red]! gradients suspect:[/]", "") if suspect else ("[yellow]gradients unchecked:[/]", _HINT)
        err.print(f"{mark} {escape(f'{_models(rows)} · {text.partition(_COLON)[2]}{hint}')}", highlight=False, soft_wrap=True)


def print_marked(board: Any) -> None:
    """Why numbers that are complete are marked, each reason once."""
    marked = board[(board["status"] == "complete") & (board["reason"] != "")]
    for (_, _, data, reason), rows in marked.groupby(["model", "transforms", "data", "reason"], sort=False):
        scenarios = dict.fromkeys(" ".join(filter(None, pair)) for pair in zip(rows["scenario"], rows["severity"], strict=True))
        what = " ".join(filter(None, (*([*scenarios] if len(scenarios) == 1 else []), ", ".join(dict.fromkeys(rows["metric"])))))
        err.print(f"[yellow]?[/] {escape(f'{_models(rows)} · {what} on {data}: {reason}')}", highlight=False, soft_wrap=True)


def print_averages_without_value(board: Any, told: Iterable[str] = ()) -> None:
    """Why averages have no value, each reason once. told: why cells failed, where that was said: averages name the cell alone."""
    partial = board[(board["cell"] == "") & board["status"].isin(("partial", "undefined"))]
    for (status, reason), rows in partial.groupby(["status", "reason"], sort=False):
        names = ", ".join(dict.fromkeys(rows["metric"]))
        reason = next((reason.removesuffix(f": {one}") for one in told if reason.endswith(f": {one}")), reason)
        err.print(f"[yellow]{status}:[/] {escape(f'{_models(rows)} · {names}: {reason}')}", highlight=False, soft_wrap=True)


def exit_if_failed(board: Any) -> None:
    """Names the failed cells of a leaderboard's rows, each reason once, and exits with their code."""
    failed = board[(board["status"] == "failed") & (board["cell"] != "")].drop_duplicates("cell")
    names = failed["model"] + " · " + (failed["scenario"] + " " + failed["severity"]).str.strip()
    for reason, alike in names.groupby(failed["reason"], sort=False):
        err.print(f"[red]failed:[/] {escape(f'{few(list(alike))}: {reason}')}", highlight=False, soft_wrap=True)
    print_averages_without_value(board, failed["reason"].unique())
    if len(failed):
        raise Exit(CELLS_FAILED)


def place_name(store: object) -> str:
    """A store as a line names it: its URL, of which a Path has lost a slash, or the path."""
    from robustvit.records.remote.object_place import place_name as named

    return named(store)
