"""What a report says in sentences: a conclusion for each entrant, and what a reader must mind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustvit.report.certified import certified_words
from robustvit.report.charts import spaced
from robustvit.report.figures import Point, in_order, number
from robustvit.report.ranking import corruption_errors, mean_error, numbers_of, status_of, strongest_attacks
from robustvit.report.suite_results import Entrant, Stage, point_of
from robustvit.results.gradient_masking import verdict_word
from robustvit.spec import registry

_SHOWN = 6  # names that a note lists before it counts the rest


@dataclass(frozen=True)
class Conclusion:
    """A sentence about one entrant, the entrant's name aside."""

    entrant: Entrant
    sentence: str
    reserve: str


@dataclass(frozen=True)
class Notice:
    """Something missing: whose, what, and why. status: failed, partial or undefined."""

    status: str
    suite: str
    name: str
    what: str
    reason: str


@dataclass(frozen=True)
class Doubt:
    """Why what attacks left of a model cannot be believed yet. word: suspect or unchecked."""

    word: str
    name: str
    why: str


def doubts(stages: list[Stage]) -> list[Doubt]:
    """The verdicts on gradients that are not `honest`, each once; the suspect ones first."""
    found = []
    for entrant in (one for stage in stages for one in stage.entrants):
        judged = entrant.gradients()
        if verdict_word(judged) not in ("", "honest"):
            found.append(Doubt(verdict_word(judged), entrant.name, judged.partition(": ")[2]))
    return sorted(dict.fromkeys(found), key=lambda doubt: doubt.word)


def conclusion(stage: Stage, entrant: Entrant) -> Conclusion:
    """What the numbers of one entrant come to, and what speaks against relying on them."""
    told_of = (_clean(stage, entrant), _corrupted(entrant), _attacked(entrant), _certified(stage, entrant), _measured(entrant))
    parts = [part for part in told_of if part] or _averages(stage, entrant) or _first(stage, entrant)
    sentence = "; ".join(parts) + "." if parts else "has no number yet."
    status, told = status_of(entrant.cells)
    reserves = ["Its weights are random: these numbers are those of guessing."] if entrant.random else []
    if verdict_word(entrant.gradients()) == "suspect":
        reserves.append("The gradients that its attacks followed are suspect.")
    if status != "complete":
        reserves.append(f"{told[0].upper()}{told[1:]}.")
    return Conclusion(entrant, sentence, " ".join(reserves))


def notices(stages: list[Stage]) -> list[Notice]:
    """Everything failed, partial or undefined, gathered by reason; what failed comes first."""
    found = []
    for stage in stages:
        for entrant in stage.entrants:
            found += [*_of_cells(stage, entrant), *_of_averages(stage, entrant), *_undefined(stage, entrant)]
    order = {"failed": 0, "partial": 1, "undefined": 2}
    return sorted(_merged(found), key=lambda notice: order[notice.status])


def _clean(stage: Stage, entrant: Entrant) -> str:
    point = next((one for place, one in entrant.points("top1").items() if place.scenario == "clean"), None)
    if point is None or not point.known:
        return ""
    n = int(entrant.cells["n"].max())
    return f"answers {_percent(point)} of {n:,} clean images of {stage.data} correctly"


def _corrupted(entrant: Entrant) -> str:
    overall, errors = mean_error(entrant), corruption_errors(entrant)
    told = (
        f"errs on {_percent(overall)} over {len(errors)} corruption{'' if len(errors) == 1 else 's'}"
        if overall is not None and overall.known and errors
        else ""
    )
    known = {name: point.value for name, point in errors.items() if point.known}
    if len(known) < 2 or entrant.random:
        return told
    hardest = max(known, key=lambda name: known[name])
    points = entrant.points("top1")
    levels = in_order([place.severity for place, point in points.items() if place.scenario == hardest and point.known])
    left = (
        next((point for place, point in points.items() if (place.scenario, place.severity) == (hardest, levels[-1])), None)
        if levels
        else None
    )
    worst = f"{spaced(hardest)} costs most" + (f" ({number(left.value)}\u00a0% left at severity {levels[-1]})" if left is not None else "")
    return f"{told}, of which {worst}" if told else worst


def _attacked(entrant: Entrant) -> str:
    parts = [
        f"{spaced(attack)} {_budget(attack, eps)} leaves {_percent(point)}"
        for (attack, eps), point in strongest_attacks(entrant).items()
        if point.known
    ]
    return ", ".join(parts)


def _budget(attack: str, level: str) -> str:
    """`at 4/255`, or of attacks whose budget is a number of patches `with 2 patches`."""
    entry = registry.entries("attack").get(attack)
    counted = entry is not None and entry.severity == "patches"
    return f"with {level} patch{'' if level == '1' else 'es'}" if counted else f"at {level}"


def _certified(stage: Stage, entrant: Entrant) -> str:
    parts = [
        f"{name} prove{'' if name.endswith('s') else 's'} {_percent(point)} against {what}"
        for name, what, point in certified_words(stage, entrant)
    ]
    return ", ".join(dict.fromkeys(parts))


def _measured(entrant: Entrant) -> str:
    points = {metric: point_of(row) for metric, row in entrant.measured().items()}
    told = [f"has {spaced(metric)} {_percent(point)}" for metric, point in points.items() if point.known]
    return ", ".join(told)


def _averages(stage: Stage, entrant: Entrant) -> list[str]:
    """What there is to say of a suite that asks neither clean images nor corruptions with errors."""
    rows = entrant.rows[(entrant.rows["cell"] == "") & (entrant.rows["scenario"] == "") & (entrant.rows["status"] == "complete")]
    told = []
    for metric in rows["metric"]:
        point = entrant.average(str(metric))
        if point is not None and point.known:
            told.append(f"{spaced(str(metric))} {_valued(point, stage.unit(str(metric)))}")
    return [f"has {', '.join(told)} on {stage.data}"] if told else []


def _first(stage: Stage, entrant: Entrant) -> list[str]:
    """The leaderboard's first number: what there is to say where neither clean images nor averages have one."""
    known = ((column, point) for column, point in numbers_of(stage, entrant).items() if point.known)
    return [f"has {spaced(column.title)} {_valued(point, column.unit)} on {stage.data}" for column, point in known][:1]


def _percent(point: Point) -> str:
    return _valued(point, "%")


def _valued(point: Point, unit: str) -> str:
    interval = "" if point.low != point.low else f" [{number(point.low)},\u00a0{number(point.high)}]"
    return (f"{number(point.value)}\u00a0{unit}" if unit else number(point.value)) + interval


def _of_cells(stage: Stage, entrant: Entrant) -> Iterator[Notice]:
    rows = entrant.cells[entrant.cells["status"].isin(["failed", "partial"])].drop_duplicates("cell")
    for (status, reason), part in rows.groupby(["status", "reason"], sort=False):
        cells = [_cell(str(row.scenario), str(row.severity)) for row in part.itertuples()]
        yield Notice(str(status), stage.suite, entrant.name, _listed(cells), str(reason))


def _of_averages(stage: Stage, entrant: Entrant) -> Iterator[Notice]:
    rows = entrant.rows[(entrant.rows["cell"] == "") & (entrant.rows["status"] == "partial")]
    for metric, part in rows.groupby("metric", sort=False):
        corruptions = [spaced(name) for name in part["scenario"] if name]
        of = f" of {_listed(corruptions)}" if corruptions else ""
        reason = (
            part["reason"].iloc[0] if len(part) == 1 else "cells above are missing, and what is there is not averaged as if it were all"
        )
        yield Notice("partial", stage.suite, entrant.name, f"{metric}{of}", str(reason))


def _undefined(stage: Stage, entrant: Entrant) -> Iterator[Notice]:
    rows = entrant.rows[entrant.rows["status"] == "undefined"]
    for reason, part in rows.groupby("reason", sort=False):
        yield Notice("undefined", stage.suite, entrant.name, _listed([str(name) for name in part["metric"].unique()]), str(reason))


def _merged(found: list[Notice]) -> list[Notice]:
    """Notices that differ only in their entrant, said once."""
    names: dict[tuple[str, str, str, str], list[str]] = {}
    for notice in found:
        names.setdefault((notice.status, notice.suite, notice.what, notice.reason), []).append(notice.name)
    return [Notice(status, suite, _listed(list(dict.fromkeys(who))), what, reason) for (status, suite, what, reason), who in names.items()]


def _cell(scenario: str, severity: str) -> str:
    return f"{spaced(scenario)} {severity}".strip()


def _listed(names: list[str]) -> str:
    if len(names) <= _SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
