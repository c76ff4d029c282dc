"""The leaderboard as text or files, in a format: csv, parquet and json hold all rows; md and latex fit a page.

The formats of other projects are the modules of robustvit.results.exports; `export` writes them too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from robustvit.errors import UsageError
from robustvit.results.exports.formats import format_names, write_export
from robustvit.results.leaderboard import Leaderboard
from robustvit.results.ranks.rank_tables import pages_with_ranks
from robustvit.results.table_formats import check_choice, csv_text, pages_latex, pages_markdown, save_file

FORMATS = ("csv", "parquet", "json", "md", "latex", *format_names())


def export(board: Leaderboard, format: str, path: Path | str | None = None) -> str:
    """The leaderboard as text in a format, written to `path` as well when one is given. Parquet is binary: it needs a path, and returns "".

    csv writes ten significant digits; read it with `robustvit.results.leaderboard.read_csv`. md and latex (with booktabs) hold pages: one
    row per model, their ranks, then every other number by scenario. Formats of several files (robustbench of several models, dataset,
    lm-eval) take a folder as `path`, and return "". Raises UsageError for an unknown format, for a leaderboard that lacks
    what the format needs, and for several files without a folder; StoreFull where the path cannot be written.
    """
    check_choice("the format", format, FORMATS)
    if format in format_names():
        return write_export(board, format, None if path is None else Path(path))
    if format == "parquet" and path is None:
        raise UsageError("parquet is binary and cannot be printed; name a file with -o board.parquet.")
    content = board.rows.to_parquet(index=False) if format == "parquet" else _WRITERS[format](board)
    if path is not None:
        save_file(content, Path(path))
    return content if isinstance(content, str) else ""


def _csv(board: Leaderboard) -> str:
    return csv_text(board.rows, "%.10g")


def _md(board: Leaderboard) -> str:
    return pages_markdown(pages_with_ranks(board))


def _json(board: Leaderboard) -> str:
    plain = board.rows.astype(object).where(board.rows.notna(), None)
    return json.dumps(plain.to_dict(orient="records"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _latex(board: Leaderboard) -> str:
    return pages_latex(pages_with_ranks(board, bold=True))


_WRITERS: dict[str, Callable[[Leaderboard], str]] = {"csv": _csv, "json": _json, "md": _md, "latex": _latex}
