"""Tests statements about the zoo on the committed Records, and writes the table of them in docs/zoo.md: `nox -s reports` calls it.

A statement of reports/statements.yaml compares one number of two models, paired by image, without torch. `--check` writes nothing, and
fails where the page is not what the Records give.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import board_plan
import numpy as np
import yaml

from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.pages import headline_in_words, models_of
from robustvit.results.ranks.sample_values import SampleValues
from robustvit.results.summary import ShownNumber, headline_numbers
from robustvit.results.two_stores.paired_values import PairedDifference, mean_difference
from robustvit.statistics.resamples import Resamples

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "zoo.md"
BEGIN, END = "<!-- statements: written by reports/statements.py -->", "<!-- end of statements -->"
HEAD = "| statement | number | measured | difference | verdict |\n|---|---|---|---|---|"
SAME = "the same"


def number_of(board: Leaderboard, model: str, title: str) -> ShownNumber:
    """The number of a model with a title. Raises SystemExit, naming what there is, where there is none."""
    models = dict(models_of(board.rows))
    if model not in models:
        raise SystemExit(f"reports/statements.yaml: the board has no model '{model}'; it has {', '.join(models)}.")
    found = {headline_in_words(one): one for one in headline_numbers(models[model])}
    if title not in found:
        raise SystemExit(f"reports/statements.yaml: {model} has no number '{title}'; it has {', '.join(found)}.")
    return found[title]


def difference(board: Leaderboard, a: ShownNumber, b: ShownNumber) -> PairedDifference:
    """The first number less the second, as a fraction, paired by image, with its interval."""
    values = SampleValues(board)
    left, right = values.of(a.rows), values.of(b.rows)
    if left is None or right is None or left.question != right.question or not left.samples.equals(right.samples):
        raise SystemExit(f"reports/statements.yaml: '{a.title}' has no paired test.")
    drawn = Resamples(left.samples.tolist())
    change = (left.values - right.values)[drawn.order]
    found = mean_difference(np.round(change, 12), 1.0 if left.counted and right.counted else math.inf, drawn.weights)
    if not math.isclose(100 * found.value, a.facts["value"] - b.facts["value"], abs_tol=1e-9):
        raise SystemExit(f"reports/statements.yaml: '{a.title}' is not the mean of what its samples contribute.")
    return found


def verdict(found: PairedDifference, expected: str) -> str:
    """Whether a difference with an interval supports a statement, contradicts it, or neither."""
    shown = "higher" if found.low > 0 else "lower" if found.high < 0 else SAME
    if expected == SAME:
        return "no difference shown" if shown == SAME else "contradicted"
    return "supported" if shown == expected else "not shown" if shown == SAME else "contradicted"


def row(boards: dict[str, Leaderboard], one: dict[str, Any]) -> str:
    """The row of a statement."""
    board = boards[one["suite"]]
    a, b = (number_of(board, one[name], one["number"]) for name in ("model", "against"))
    found = difference(board, a, b)
    measured = f"`{one['model']}` {a.text}, `{one['against']}` {b.text}"
    return (
        f"| {one['text']}: {one['expected']} | {one['suite']}, {one['number']} | {measured} | "
        f"{100 * found.value:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}] | {verdict(found, one['expected'])} |"
    )


def table() -> str:
    """The table of all statements, in Markdown."""
    statements = yaml.safe_load((HERE / "statements.yaml").read_text(encoding="utf-8"))
    store = HERE / board_plan.read_plan()["zoo"].store
    boards = {suite: build_leaderboard(store, suite=suite) for suite in dict.fromkeys(one["suite"] for one in statements)}
    return "\n".join([HEAD, *(row(boards, one) for one in statements)])


def main() -> None:
    """Writes the table into the page, or compares it with the page's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where the page has another table; write nothing")
    chosen = parser.parse_args()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    made = f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"
    if chosen.check and made != PAGE.read_text(encoding="utf-8"):
        sys.exit("docs/zoo.md does not have the table of reports/statements.py.")
    if not chosen.check:
        PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
