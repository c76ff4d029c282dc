"""What a report says in sentences: a conclusion for each entrant, and what a reader must mind."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from robustvit.figures import Point, in_order, number
from robustvit.report.charts import spaced
from robustvit.report.entrants import Entrant, Stage
from robustvit.report.standings import corruption_errors, mean_error, status_of, strongest_attacks

_SHOWN = 6  # names that a note lists before it counts the rest


@dataclass(frozen=True)
class Conclusion:
    """A sentence about one entrant, the entrant's name aside."""

    entrant: Entrant
    sentence: str
    reserve: str


@dataclass(frozen=True)
class Notice:
    """Something missing: whose, what, and why. status: failed, partial or n/a."""

    status: str
    suite: str
    name: str
    what: str
    reason: str


def conclusion(stage: Stage, entrant: Entrant) -> Conclusion:
    """What the numbers of one entrant come to, and what speaks against relying on them."""
    parts = [part for part in (_clean(stage, entrant), _corrupted(entrant), _attacked(entrant)) if part]
    sentence = "; ".join(parts) + "." if parts else "has no number yet."
    status, told = status_of(entrant.cells)
    reserves = ["Its weights are random: these numbers are those of guessing."] if entrant.random else []
    if status != "complete":
        reserves.append(f"{told[0].upper()}{told[1:]}.")
    return Conclusion(entrant, sentence, " ".join(reserves))


def notices(stages: list[Stage]) -> list[Notice]:
    """Everything failed, partial or n/a, gathered by reason; what failed comes first."""
    found = []
    for stage in stages:
        for entrant in stage.entrants:
            cells = entrant.cells.drop_duplicates("cell")
            found += _gathered(cells, stage, entrant.name)
            found += _gathered(entrant.rows[entrant.rows["cell"] == ""], stage, entrant.name)
            unanswered = entrant.cells[entrant.cells["status"] == "n/a"]
            found += _gathered(unanswered, stage, entrant.name) if not (cells["status"] == "n/a").any() else []
    order = {"failed": 0, "partial": 1, "n/a": 2}
    return sorted(_merged(found), key=lambda notice: order[notice.status])


def _clean(stage: Stage, entrant: Entrant) -> str:
    point = next((one for place, one in entrant.points("top1").items() if place.scenario == "clean"), None)
    if point is None or not point.known:
        return ""
    n = int(entrant.cells["n"].max())
    return f"answers {_percent(point)} of {n:,} clean images of {stage.data} correctly"


def _corrupted(entrant: Entrant) -> str:
    overall, errors = mean_error(entrant), corruption_errors(entrant)
    told = f"errs on {_percent(overall)} over {len(errors)} corruptions" if overall is not None and overall.known and errors else ""
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
        f"{spaced(attack)} at {eps} leaves {_percent(point)}" for (attack, eps), point in strongest_attacks(entrant).items() if point.known
    ]
    return ", ".join(parts)


def _percent(point: Point) -> str:
    interval = "" if point.low != point.low else f" [{number(point.low)},\u00a0{number(point.high)}]"
    return f"{number(point.value)}\u00a0%{interval}"


def _gathered(rows: pd.DataFrame, stage: Stage, name: str) -> list[Notice]:
    found = []
    missing = rows[rows["status"] != "complete"]
    for (status, reason), part in missing.groupby(["status", "reason"], sort=False):
        whole = bool((part["cell"] == "").all()) or status == "n/a"
        what = list(dict.fromkeys(part["metric"])) if whole else [_cell(str(r.scenario), str(r.severity)) for r in part.itertuples()]
        found.append(Notice(str(status), stage.suite, name, _listed([str(one) for one in what if one]), str(reason)))
    return found


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
