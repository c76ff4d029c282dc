"""A table of text as a LaTeX float, as wide as its line: what can be wrapped is, and no number is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from robustvit.results.latex.set_text import COLUMN_GAP, LINE, latex_text, longest_word, text_width

_WIDEST = 0.32  # of a line, that a column of text takes where it can be wrapped
_NARROWEST = 70.0  # points that a column of text is wrapped to at the least


class TextColumn(NamedTuple):
    """A column: its head, the heading above that, its cells, which of them are bold, and whether it is of numbers.

    limit: the width in points that its text is wrapped to, None for a column that is as wide as its cells.
    """

    head: str
    group: str
    cells: tuple[str, ...]
    bold: tuple[bool, ...]
    number: bool
    limit: float | None = None

    @property
    def body(self) -> float:
        """The width of its cells, in points."""
        widths = [text_width(cell, bold=bold) for cell, bold in zip(self.cells, self.bold, strict=True)]
        return self.limit if self.limit is not None else max(widths, default=0.0)

    @property
    def width(self) -> float:
        """Its own, its head wrapped, and the gap to the next, in points."""
        return max(self.body, min(text_width(self.head), max(_NARROWEST, longest_word(self.head)))) + COLUMN_GAP


def wrapped(column: TextColumn) -> TextColumn:
    """A column of text, wrapped where it takes more of a line than what names rows should."""
    widest = _WIDEST * LINE
    return column if column.body <= widest else column._replace(limit=max(widest, *(longest_word(cell) for cell in column.cells)))


def tabular(columns: Sequence[TextColumn], caption: str) -> str:
    """The table in LaTeX (booktabs)."""
    lines = [r"\begin{table}[htbp]", rf"\centering\small\setlength{{\tabcolsep}}{{{COLUMN_GAP / 2:g}pt}}", rf"\caption{{{caption}}}"]
    lines += [rf"\begin{{tabular}}{{{''.join('r' if one.number else 'l' for one in columns)}}}", r"\toprule"]
    if any(one.group for one in columns):
        lines += _groups(columns)
    lines += [_row([_head(one) for one in columns]), r"\midrule"]
    lines += [_row([_cell(one, place) for one in columns]) for place in range(len(columns[0].cells))]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    first = f"{{{cells[0][0]}}}{cells[0][1:]}" if cells[0][:1] in ("[", "*") else cells[0]  # else it were an argument of the line before
    return " & ".join([first, *cells[1:]]) + r" \\"


def _head(one: TextColumn) -> str:
    width = one.width - COLUMN_GAP
    if text_width(one.head) <= width:
        return latex_text(one.head)
    side = r"\raggedleft" if one.number else r"\raggedright"
    return rf"\parbox[b]{{{width:.0f}pt}}{{{side} {latex_text(one.head, breaks=True)}\strut}}"


def _cell(one: TextColumn, place: int) -> str:
    text = latex_text(one.cells[place], breaks=one.limit is not None)
    if one.limit is not None:
        return rf"\parbox[t]{{{one.limit:.0f}pt}}{{\raggedright\strut {text}\strut}}"
    return rf"\textbf{{{text}}}" if one.bold[place] else text


def _groups(columns: Sequence[TextColumn]) -> list[str]:
    """The headings above the heads, each over the columns beside each other that share it, and the lines below them."""
    runs: list[list[int]] = []
    for place, one in enumerate(columns):
        if runs and columns[runs[-1][0]].group == one.group:
            runs[-1].append(place)
        else:
            runs.append([place])
    cells, rules = [], []
    for run in runs:
        name, width = columns[run[0]].group, sum(columns[place].width for place in run) - COLUMN_GAP
        text = latex_text(name)
        if text_width(name) > width:
            text = rf"\parbox[b]{{{width:.0f}pt}}{{\centering {latex_text(name, breaks=True)}\strut}}"
        cells.append(rf"\multicolumn{{{len(run)}}}{{c}}{{{text}}}" if name else " & ".join([""] * len(run)))
        rules += [rf"\cmidrule(lr){{{run[0] + 1}-{run[-1] + 1}}}"] if name else []
    return [" & ".join(cells) + r" \\", "".join(rules)]
