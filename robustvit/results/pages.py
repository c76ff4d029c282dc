"""The leaderboard as pages of text: a summary first, then every other number, by metric and scenario."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from robustvit.results.paired_best import PairedTests
from robustvit.results.parameters import crafted_elsewhere, distinguishing
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.summary import ShownNumber, headline_numbers, scenario_names, summary
from robustvit.results.table_formats import Page
from robustvit.spec import registry
from robustvit.spec.grouping import grouped
from robustvit.spec.written.words import metric_heading
from robustvit.statistics.estimates import on_curve


def pages(board: pd.DataFrame, tests: PairedTests | None = None) -> list[Page]:
    """The summary of a leaderboard, then what it leaves out: a page for each suite and metric, a row for each scenario.

    Models are columns; of a single one metrics are, and all is on one page. Corruptions are means over their severities, with the means of
    their ends as an interval. Together the pages show every scenario and metric of the leaderboard, but for points of curves, which the
    report draws; images that were crafted on another model are in the matrix of `robustvit transfer`. tests: of the leaderboard, which find
    the best numbers among models.
    """
    summaries = [_summary_page(part, tests) for _, part in board.groupby("suite", sort=False)]
    return [*summaries, *scenario_pages(board, tests)]


def scenario_pages(board: pd.DataFrame, tests: PairedTests | None = None) -> list[Page]:
    """The pages of `pages` after the summaries."""
    return [page for (suite, base), part in _suites(board) for page in _pages_of_suite(suite, base, part, tests)]


def _summary_page(part: pd.DataFrame, tests: PairedTests | None) -> Page:
    numbers = [(row, one) for row, (_, rows) in enumerate(models_of(part, "base")) for one in headline_numbers(rows)]
    table = summary(part).rename(columns={one.title: headline_in_words(one) for _, one in numbers})
    numbers = [(row, one._replace(title=headline_in_words(one))) for row, one in numbers]
    directions = {one.title: one.higher_is_better for _, one in numbers}
    first = next((place for place, name in enumerate(table.columns) if name in directions), len(table.columns))
    columns = grouped(((one.title, str(one.rows["base"].iloc[0])), (row, one.rows)) for row, one in numbers)
    best = [(own, title, tests.best([rows for _, rows in own])) for (title, _), own in columns.items()] if tests is not None else []
    return Page("", table, first, directions, best=frozenset((own[at][0], title) for own, title, at in best if at is not None))


def _suites(board: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of each suite and its data, with the name of the data where the suite has others too."""
    for (suite, base), part in board.groupby(["suite", "base"], sort=False):
        yield (str(suite), str(base) if board.loc[board["suite"] == suite, "base"].nunique() > 1 else ""), part


def headline_in_words(one: ShownNumber) -> str:
    """The title of a number with its metric as readers call it."""
    before, found, _ = one.title.rpartition(one.metric)
    return before + metric_heading(one.metric) if found and one.title.endswith(one.metric) else one.title


def _pages_of_suite(suite: str, base: str, part: pd.DataFrame, tests: PairedTests | None) -> Iterator[Page]:
    numbers = [(model, one) for model, rows in models_of(part) for one in _left_out(rows) if not on_curve(one.metric)]
    title = f"{suite} · {base}" if base else suite
    if len({model for model, _ in numbers}) == 1:
        directions = {metric_heading(one.metric): one.higher_is_better for _, one in numbers}
        yield _page(f"{title} · {numbers[0][0]}", [(one.title, metric_heading(one.metric), one) for _, one in numbers])._replace(
            directions=directions
        )
        return
    for metric in dict.fromkeys(one.metric for _, one in numbers):
        own = [(one.title, model, one) for model, one in numbers if one.metric == metric]
        yield _page(f"{title} · {metric_heading(metric)}", own, tests)._replace(higher_is_better=own[0][2].higher_is_better)


def _page(title: str, numbers: Sequence[tuple[str, str, ShownNumber]], tests: PairedTests | None = None) -> Page:
    """A page of numbers, each with the names of its row and its column. tests: where columns are models."""
    texts: dict[str, dict[str, str]] = {}
    for row, column, one in numbers:
        texts.setdefault(row, {})[column] = one.text
    best = set()
    for row, own in grouped((row, (column, one.rows)) for row, column, one in numbers).items():
        found = None if tests is None else tests.best([rows for _, rows in own])
        if found is not None:
            best.add((list(texts).index(row), own[found][0]))
    table = pd.DataFrame.from_dict(texts, orient="index").fillna("").rename_axis("scenario").reset_index()
    return Page(title, table, best=frozenset(best))


def _left_out(part: pd.DataFrame) -> list[ShownNumber]:
    """The numbers of one model on one suite that its summary does not show, corruptions as means over their severities."""
    shown = {one.rows.index[0] for one in headline_numbers(part) if len(one.rows) == 1}
    rest = part[~part.index.isin(shown) & (part["metric"] != "") & ~part["params"].map(crafted_elsewhere)]
    return [one for _, rows in rest.groupby("metric", sort=False) for one in by_scenario(rows)]


def by_scenario(rows: pd.DataFrame) -> list[ShownNumber]:
    """Numbers of one metric and model, one for each scenario; severities of a corruption are averaged, and those of an attack are not."""
    graded = rows["scenario"].isin(registry.entries("corruption").keys()) & (rows["severity"] != "")
    keys = (rows["scenario"] + " " + rows["params"] + " " + rows["data"]).where(graded, rows.index.astype(str))
    groups = list(grouped((key, place) for place, key in enumerate(keys)).values())
    firsts = rows.iloc[[places[0] for places in groups]]
    firsts = firsts.assign(severity=firsts["severity"].where(np.array([len(places) == 1 for places in groups], dtype=bool), ""))
    several = rows["data"].nunique() > 1
    lacking = ((rows["status"] != "complete") | rows["value"].isna()).to_numpy()
    names = zip(scenario_names(firsts), firsts["data"], groups, strict=True)
    return [
        ShownNumber(f"{name} {data}" if several else name or "all scenarios", _whole(rows, places, lacking)) for name, data, places in names
    ]


def _whole(rows: pd.DataFrame, places: list[int], lacking: np.ndarray) -> pd.DataFrame:
    """The rows of a mean, by place; where one of several is not complete there is none, and it tells why."""
    first = next((place for place in places if lacking[place]), None)
    return rows.iloc[places] if first is None or len(places) == 1 else rows.iloc[[first]].assign(value=float("nan"))


def model_keys(board: pd.DataFrame) -> list[str]:
    """The columns that tell the models of a leaderboard apart; a view only where one model has several, since each has its own."""
    several = bool((board.groupby(["model", "transforms"])["model_view"].nunique() > 1).any())
    varying = distinguishing(board, [name for name in GROUP if name not in ("suite", "base", "model", "model_view")])
    return ["model", *varying, *(["model_view"] if several else [])]


def models_of(part: pd.DataFrame, *more: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each model, and of each value of more columns, under a label that tells it from the others."""
    keys = model_keys(part)
    for key, rows in part.groupby([*keys, *more], sort=False):
        texts = [f"seed {value}" if name == "seed" else str(value) for name, value in zip(keys, key, strict=False)]
        yield " · ".join(text for text in texts if text), rows
