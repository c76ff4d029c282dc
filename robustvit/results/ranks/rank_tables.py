"""The ranks of models by each headline number of a leaderboard, as a tidy table and as a page for each suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from robustvit.records.store import Store
from robustvit.results.leaderboard import Leaderboard, build_leaderboard
from robustvit.results.pages import headline_in_words, models_of, pages
from robustvit.results.paired_best import PairedTests
from robustvit.results.ranks.rank_intervals import Rank
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.summary import ShownNumber, headline_numbers
from robustvit.results.table_formats import Page
from robustvit.spec.grouping import grouped

_NUMBER = ("metric", "scenario", "severity", "params")
_COLUMNS = (*GROUP, "number", *_NUMBER, "value", "low", "high", "n", "higher_is_better", "rank", "last", "shared", "among", "reason")
_COUNTS = ("rank", "last", "among")
_RULE = "ranks: 1 + models shown to be better (paired tests, Holm, 5 %); = shared"


class _Ranked(NamedTuple):
    """A headline number of a model with its rank."""

    model: str
    number: ShownNumber
    rank: Rank


def ranks(store: Store | Path | str, *, suite: str | None = None, models: list[str] | None = None) -> pd.DataFrame:
    """The ranks of the models of a store by each headline number of each suite, one row for each number.

    rank: one more than the number of models that a paired test shows to be better; last: the last rank that the model may have, their
    number (`among`) less those shown to be worse; shared: whether another model has the same rank; no rank, and the `reason`, where a
    number is not ranked. See robustvit.results.ranks.rank_intervals for the rule and robustvit.results.paired_best for the tests. Raises
    as `leaderboard`.
    """
    board = build_leaderboard(store, suite=suite, models=models)
    return rank_table(board, PairedTests(board))


def rank_table(board: Leaderboard, tests: PairedTests) -> pd.DataFrame:
    """`ranks` of a leaderboard."""
    found = [_tidy(one) for _, part in board.rows.groupby("suite", sort=False) for some in _columns(part, tests) for one in some]
    table = pd.DataFrame(found, columns=list(_COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))
    table.loc[table["reason"] != "", list(_COUNTS)] = pd.NA
    return table


def pages_with_ranks(board: Leaderboard, *, bold: bool = False) -> list[Page]:
    """`pages` of a leaderboard, with the ranks of each suite's models after the summaries. bold: whether the best numbers are found."""
    tests = PairedTests(board)
    found = pages(board.rows, tests if bold else None)
    summaries = sum(not page.title for page in found)
    ranked = [page for _, part in board.rows.groupby("suite", sort=False) for page in rank_pages(part, tests)]
    return [*found[:summaries], *ranked, *found[summaries:]]


def rank_pages(part: pd.DataFrame, tests: PairedTests) -> Iterator[Page]:
    """The ranks on one suite, a row for each number and a column for each model; none where no two models have a tested number."""
    ranked = [some for some in _columns(part, tests) if any(one.rank.rank for one in some)]
    if not ranked:
        return
    several = len({str(some[0].number.rows["base"].iloc[0]) for some in ranked}) > 1
    lines = []
    for some in ranked:
        first = some[0].number
        base = f" · {first.rows['base'].iloc[0]}" if several else ""
        named = f"{headline_in_words(first)}{base} {'↑' if first.higher_is_better else '↓'}"
        lines.append({"number": named} | {one.model: one.rank.text for one in some})
    yield Page(f"{part['suite'].iloc[0]} · {_RULE}", pd.DataFrame(lines).fillna(""))


def _columns(part: pd.DataFrame, tests: PairedTests) -> Iterator[list[_Ranked]]:
    """The headline numbers of one suite by what they are of, each list of all models that have it."""
    every = [(model, one) for model, rows in models_of(part, "base") for one in headline_numbers(rows)]
    for some in grouped(((one.title, str(one.rows["base"].iloc[0])), (model, one)) for model, one in every).values():
        found = tests.ranks([one.rows for _, one in some])
        yield [_Ranked(model, one, rank) for (model, one), rank in zip(some, found, strict=True)]


def _tidy(one: _Ranked) -> dict[str, object]:
    row = one.number.rows.iloc[0]
    of = _NUMBER if len(one.number.rows) == 1 else ("metric",)
    facts = {name: value for name, value in one.number.facts.items() if name != "status"}
    return {
        **{name: row[name] for name in GROUP}, "number": one.number.title, **dict.fromkeys(_NUMBER, ""), **{name: row[name] for name in of},
        **facts, "higher_is_better": one.number.higher_is_better, **one.rank._asdict(),
    }  # fmt: skip
