"""The same cell of two models, or of two stores, sample by sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from robustvit.errors import BadParameter, StoreDamaged, StoreError, UsageError, few, nearest, with_article
from robustvit.records.cells import CellRows, StoredCell, rows_of, step_to_show, stored_chains
from robustvit.records.questions import setting
from robustvit.records.store import Store
from robustvit.results.editions import Edition, unequal
from robustvit.spec.written.pipeline import split_name

K = TypeVar("K", bound=Hashable)
SETTING = ("transforms", "data", "scenario", "severity", "params", "seed", "precision", "storage")
OF_RUNS = ("seed", "precision", "storage")  # settings that are chosen for a whole run
_ARROW = " → "  # between a model and its transforms, as tables and exports write them
_COLUMNS = ("label", "pred", "against")

Chains = Mapping[tuple[Any, ...], Sequence[StoredCell]]
"""The steps of each cell by its setting: several of a chain of attacks, else one."""


@dataclass(frozen=True)
class Pair:
    """The same cell of two sides: rows of the samples that both have, sorted by sample, with columns of either side marked _a and _b.

    Of a chain of attacks it is the furthest step that both sides have come to. partial: what is missing of either, "" where both cells are
    whole. refused: why the two are not compared, "" where they are. failed: why a side has no rows at all, "" where both have. found: what
    was read of either.
    """

    key: tuple[Any, ...]
    a: StoredCell
    b: StoredCell
    rows: pd.DataFrame
    partial: str = ""
    refused: str = ""
    failed: str = ""
    found: tuple[CellRows, ...] = ()

    @property
    def about(self) -> dict[str, Any]:
        """The columns of the setting."""
        return {"suite": self.key[0], **dict(zip(SETTING, self.key[1:], strict=True))}


class MatchedKeys(NamedTuple):
    """The keys of a cell in two stores; None where one does not have it."""

    a: tuple[Any, ...] | None
    b: tuple[Any, ...] | None

    @property
    def across(self) -> str:
        """What of seed, precision and storage differs: `seed 0 and 1`; "" where nothing does, or one side has no such cell."""
        if self.a is None or self.b is None:
            return ""
        values = zip(("model", "suite", *SETTING), self.a, self.b, strict=True)
        return ", ".join(f"{name} {a if a != '' else 'none'} and {b if b != '' else 'none'}" for name, a, b in values if a != b)


class Side(NamedTuple):
    """A store and the steps that it has of a cell."""

    store: Store
    steps: Sequence[StoredCell]


def pairs(store: Store, a: str, b: str, suite: str | None) -> Iterator[Pair]:
    """The cells that two models share.

    Raises StoreError for a model that is not there, and where the two share no cell; UsageError for one model and itself.
    """
    left, right = _sides(store, a, b, suite)
    shared = [key for key in left if key in right]
    if not shared:
        raise StoreError(f"'{a}' and '{b}' share no cell in {store.path}; run both on the same suite and data.")
    if all({step.question.cell for step in left[key]} == {step.question.cell for step in right[key]} for key in shared):
        raise UsageError(f"'{a}' and '{b}' are the same model with the same rows: comparing it with itself says nothing. Name two.")
    for key in shared:
        yield paired_cell(key, Side(store, left[key]), Side(store, right[key]))


def paired_cell(key: tuple[Any, ...], a: Side, b: Side, *, whole: bool = False) -> Pair:
    """The pair of one cell of two sides. whole: read every column, and not only what is paired.

    Raises StoreError where these give the same samples different labels.
    """
    first, second = _same_step(a, b)
    columns = None if whole else _COLUMNS
    found = rows_of(a.store, first.question, columns), rows_of(b.store, second.question, columns)
    left, right = (one.rows[["sample", *(name for name in _COLUMNS if name in one.rows)]] for one in found)
    rows = left.merge(right, on="sample", suffixes=("_a", "_b")).sort_values("sample", ignore_index=True)
    if "label_a" in rows and bool((rows["label_a"] != rows["label_b"]).any()):
        raise StoreError(
            f"the cells {first.question.cell} and {second.question.cell} give the same samples of '{first.question.data}' different "
            "labels; they were not computed on the same data."
        )
    refused = unequal(_edition(a.store, first), _edition(b.store, second))
    return Pair(key, first, second, rows, _partial(*found, len(rows)), refused, _reasons("failed", *found), found)


def by_label(store: Store, suite: str | None = None, models: Iterable[str] | None = None) -> Chains:
    """The cells of a store by model label, suite and setting. suite, models: only these. Raises StoreError for one that is not there."""
    return {(steps[0].question.model, *_setting(steps)): steps for steps in stored_chains(store, suite, models)}


def match_cells(left: Chains, right: Chains) -> list[MatchedKeys]:
    """The keys of two stores' cells side by side, as `side_by_side` has them: loosened by what is chosen for a whole run."""
    return [MatchedKeys(*pair) for pair in side_by_side(left, right, _without_run)]


def side_by_side(left: Iterable[K], right: Iterable[K], loosened: Callable[[K], object]) -> list[tuple[K | None, K | None]]:
    """The keys of two sides that belong together, in the order of the left, and then what only the right has; None for a side without.

    A key's match is its equal. Keys without one are matched by what `loosened` leaves of them, where that is unique on each side.
    """
    sides = dict.fromkeys(left), dict.fromkeys(right)
    rest = [{key: loosened(key) for key in own if key not in other} for own, other in (sides, sides[::-1])]
    counts = [Counter(own.values()) for own in rest]
    beside = {loose: key for key, loose in rest[1].items() if counts[0][loose] == counts[1][loose] == 1}
    found: list[tuple[K | None, K | None]] = [(key, key if key in sides[1] else beside.get(rest[0][key])) for key in sides[0]]
    taken = {other for _, other in found}
    return found + [(None, key) for key in sides[1] if key not in taken]


def _without_run(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key of `by_label` without what is chosen for a whole run."""
    return tuple(value for name, value in zip(("model", "suite", *SETTING), key, strict=True) if name not in OF_RUNS)


def _same_step(a: Side, b: Side) -> tuple[StoredCell, StoredCell]:
    """The cells that tables show of both sides, or of a chain of attacks that one has come further along, the other's step."""
    shown = [step_to_show(side.store, side.steps) for side in (a, b)]
    link = min(one.question.link for one in shown)
    first, second = (
        next((step for step in side.steps if step.question.link == link), one) for side, one in zip((a, b), shown, strict=True)
    )
    return first, second


def _partial(a: CellRows, b: CellRows, shared: int) -> str:
    """What is missing of two cells: one reason where it is the same, else each side's; the counts where one has other samples."""
    text = _reasons("partial", a, b)
    counts = {len(a.rows), len(b.rows)}
    if text or counts == {shared} or 0 in counts:
        return text
    return f"{shared} samples that both have, of {len(a.rows)} of a and {len(b.rows)} of b"


def _reasons(status: str, a: CellRows, b: CellRows) -> str:
    """Why cells are of a status: one reason where it is the same, else each side's."""
    reasons = [one.reason if one.status == status else "" for one in (a, b)]
    if reasons[0] == reasons[1]:
        return reasons[0]
    return "; ".join(f"{side}: {reason}" for side, reason in zip("ab", reasons, strict=True) if reason)


def _edition(store: Store, cell: StoredCell) -> Edition:
    try:
        return Edition.of(store.describe(cell.question.cell) if store.knows(cell.question.cell) else {}, cell.data)
    except StoreDamaged:  # its rows are not read either, and the damage is named there
        return Edition()


def _sides(store: Store, a: str, b: str, suite: str | None) -> list[Chains]:
    """The cells of both sides by their setting; of their transforms only where neither side is named with its own."""
    for name in (a, b):
        if not isinstance(name, str):
            raise BadParameter(f"a model is named by its label in the store; this is {with_article(type(name).__name__)}, {name!r}.")
    names = [split_name(name) for name in (a, b)]
    found = stored_chains(store, suite, [model for model, _ in names])
    if all(transforms is None for _, transforms in names):
        return [{_setting(steps): steps for steps in found if steps[0].question.model == model} for model in (a, b)]
    _refuse_unknown([f"{model}{_ARROW}{transforms or ''}".removesuffix(_ARROW) for model, transforms in names], found)
    return [
        {
            _setting(steps, transforms=""): steps
            for steps in found
            if (steps[0].question.model, steps[0].question.transforms) == (model, transforms or "")
        }
        for model, transforms in names
    ]


def _refuse_unknown(names: Iterable[str], found: Iterable[Sequence[StoredCell]]) -> None:
    """Raises StoreError for a model whose transforms no run applied."""
    questions = [steps[0].question for steps in found]
    known = list(dict.fromkeys(f"{one.model}{_ARROW}{one.transforms}".removesuffix(_ARROW) for one in questions))
    for name in names:
        if name not in known:
            raise StoreError(f"no run requested '{name}'.{nearest(name, known)} These were requested: {few(known)}.")


def _setting(steps: Sequence[StoredCell], *, transforms: str | None = None) -> tuple[Any, ...]:
    """The suite and setting of a cell. transforms: in the place of its own."""
    question = steps[0].question
    own, *rest = setting(question)
    return (question.suite, own if transforms is None else transforms, *rest)
