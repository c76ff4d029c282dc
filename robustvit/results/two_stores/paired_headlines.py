"""The headline numbers of two leaderboards side by side, with differences that are paired by sample where they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robustvit.results.leaderboard import Leaderboard
from robustvit.results.paired_cells import OF_RUNS, side_by_side
from robustvit.results.scoring.group_scores import GROUP
from robustvit.results.summary import ShownNumber, headline_numbers
from robustvit.results.two_stores.number_pairing import NumberPairing, PairedSide
from robustvit.results.two_stores.paired_values import PairedDifference


class NumberPair(NamedTuple):
    """A headline number of both sides, None where one does not have it. difference: None where there is none.

    shared: of how many cells the difference is, where a side averages over others besides; 0 where both average over the same.
    """

    title: str
    a: ShownNumber | None
    b: ShownNumber | None
    difference: PairedDifference | None
    shared: int = 0


class HeadlineGroup(NamedTuple):
    """The headline numbers of one model on one suite. about: its columns of GROUP, as a has them, or b where a does not."""

    about: Mapping[str, Any]
    numbers: Sequence[NumberPair]


def paired_headlines(a: Leaderboard, b: Leaderboard) -> list[HeadlineGroup]:
    """The headline numbers of two stores by model and suite, matched as `diff` matches cells; a model's own view may differ.

    A difference is paired where the number is a mean over samples, or a statistic that is resampled from them, of one cell or of several
    (mCE, say): it is taken over the samples that both sides have, and its interval is that of the differences. Of other numbers it is the
    plain difference, without an interval, where both average over the same cells. A number without a value on one side has none, nor has
    one of a chain of attacks that one side has come further along.
    """
    left, right = _groups(a), _groups(b)
    free = (*OF_RUNS, "model_view")
    found = []
    for first, second in side_by_side(left, right, lambda key: tuple(v for name, v in zip(GROUP, key, strict=True) if name not in free)):
        about = dict(zip(GROUP, first or second or (), strict=True))
        numbers = [{} if key is None else _numbers(rows[key]) for key, rows in ((first, left), (second, right))]
        sides = None if first is None or second is None else NumberPairing(PairedSide(a, first), PairedSide(b, second))
        pairs = side_by_side(numbers[0], numbers[1], lambda key: key)
        found.append(HeadlineGroup(about, [_pair(numbers[0].get(x), numbers[1].get(y), sides) for x, y in pairs]))
    return found


def _groups(board: Leaderboard) -> dict[tuple[Any, ...], pd.DataFrame]:
    return dict(iter(board.rows.groupby(list(GROUP), sort=False)))


def _numbers(rows: pd.DataFrame) -> dict[Any, ShownNumber]:
    """The headline numbers by what their rows are of: titles may depend on what else a side has, and of an average so do parameters."""
    columns = ["data", "scenario", "severity", "params", "metric"]
    known = rows.assign(params=rows["params"].where(rows["cell"] != "", ""))
    return {tuple(map(tuple, known.loc[one.rows.index, columns].to_numpy().tolist())): one for one in headline_numbers(rows)}


def _pair(a: ShownNumber | None, b: ShownNumber | None, sides: NumberPairing | None) -> NumberPair:
    known = a or b
    assert known is not None, "a pair has a side"
    if a is None or b is None or sides is None:
        return NumberPair(known.title, a, b, None)
    return NumberPair(known.title, a, b, sides.difference(a, b), sides.shared(a))
