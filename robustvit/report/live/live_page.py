"""The page of a run that goes on: how far it is, its numbers so far, and its cells by state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from robustvit.records.run_progress import CellProgress, RunProgress
from robustvit.records.status.pace import Pace
from robustvit.records.status.worker_files import RunningWorker
from robustvit.records.status.written import by_host, elapsed, left_text, rate_text
from robustvit.report.html.document import page_style, resource_text, source_hash, template_environment
from robustvit.report.labels import scenario_title
from robustvit.report.live.live_numbers import LiveNumbers
from robustvit.spec.grouping import grouped
from robustvit.version import __version__

REFRESH = 2  # seconds between two looks of a page at the store
_REFRESH_WITHOUT_SCRIPT = 5  # seconds, after which the whole page is loaded again
_QUIET = 300.0  # seconds without a new row, after which a run may have ended
_LISTED = 12  # cells that a reason names
_OWN = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_REPORT_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; {_OWN}"  # its own is stricter


class LivePage(NamedTuple):
    """A page, and the content security policy to send with it. there: whether it is what was asked for, and no message in its place."""

    html: str
    policy: str
    there: bool = True


class CellChip(NamedTuple):
    """A cell in a row of cells. mark: what is seen of it beside its colour; tip: what it is, in words."""

    text: str
    state: str
    mark: str
    tip: str


class CellGroup(NamedTuple):
    """The cells of one model on one data set: by scenario."""

    title: str
    scenarios: dict[str, list[CellChip]]


@dataclass(frozen=True)
class Reason:
    """Why cells failed, or cannot be read."""

    cells: str
    text: str


def live_page(
    run: RunProgress, numbers: LiveNumbers | None, *, path: Path, base: str, now: float, stale: bool = False, damage: str = "",
    pace: Pace | None = None, workers: Sequence[RunningWorker] = (),
) -> LivePage:  # fmt: skip
    """The page of a run.

    numbers: None while the first are computed; stale: whether there are newer rows than theirs. path: of the store; base: the path that
    leads to the page. now: seconds since 1970. damage: what is damaged of the manifests. pace: of the run; workers: of the store.
    """
    cells = _with_damage(run.cells, {} if numbers is None else numbers.damaged)
    run = RunProgress(run.manifest, cells, run.newest, run.runs)
    since = max(0.0, now - max(run.newest or 0.0, run.started))
    return _page(
        "view.html.j2", title=_title(run), run=run, numbers=numbers, stale=stale, damage=damage, store=str(path), base=base,
        share=100.0 * run.rows / max(run.asked, 1), since=elapsed(since), quiet=since >= _QUIET and not run.over,
        begun=run.newest is not None, groups=_groups(cells), reasons=_reasons(cells),
        rate="" if run.over else rate_text(pace), left="" if run.over else left_text(pace), hosts=by_host(workers, now),
    )  # fmt: skip


def message_page(path: Path, problem: str, back: str = "") -> LivePage:
    """A page that says why there is nothing to show: a problem, or that there is no store, or no run in it, yet.

    back: an address to go back to, "" for a page that looks again by itself.
    """
    return _page("view_message.html.j2", title=str(path), store=str(path), problem=problem, back=back)._replace(there=not back)


def report_page(html: str) -> LivePage:
    """The report, which has a policy of its own in its head: what is sent with it allows no more than any report needs."""
    return LivePage(html, _REPORT_POLICY)


def _page(template: str, **variables: Any) -> LivePage:
    style, script = Markup(page_style("view.css")), Markup(resource_text("view.js"))
    html = template_environment().get_template(template).render(
        version=__version__, style=style, script=script, refresh=REFRESH, refresh_without_script=_REFRESH_WITHOUT_SCRIPT, **variables
    )  # fmt: skip
    sources = f"style-src '{source_hash(style)}'; script-src '{source_hash(script)}'; connect-src 'self'; img-src data:"
    return LivePage(html, f"default-src 'none'; {sources}; {_OWN}")


def _title(run: RunProgress) -> str:
    """`demo: quick on digits`; of several models their number."""
    labels, data = {one.cell.model for one in run.cells}, {one.cell.base for one in run.cells}
    who = f"{len(labels)} models" if len(labels) > 1 else next(iter(labels))
    return f"{who}: {run.manifest.suite.name}" + (f" on {next(iter(data))}" if len(data) == 1 else "")


def _with_damage(cells: Iterable[CellProgress], damaged: Mapping[str, str]) -> tuple[CellProgress, ...]:
    """The cells, those failed whose files are there and cannot be read."""
    return tuple(
        one._replace(state="failed", reason=damaged[one.cell.cell]) if one.state != "failed" and one.cell.cell in damaged else one
        for one in cells
    )


def _groups(cells: Iterable[CellProgress]) -> list[CellGroup]:
    several = len({one.cell.data for one in cells}) > 1, len({one.cell.seed for one in cells}) > 1
    found = []
    for key, own in grouped((_group_title(one, *several), one) for one in cells).items():
        keys = [(one.cell.scenario, one.cell.params) for one in own]
        chips = grouped((scenario_title(key, keys), _chip(one)) for key, one in zip(keys, own, strict=True))
        found.append(CellGroup(key, chips))
    return found


def _group_title(one: CellProgress, several_data: bool, several_seeds: bool) -> str:
    cell = one.cell
    parts = (cell.model, f"→ {cell.transforms}" if cell.transforms else "", f"on {cell.data}" if several_data else "")
    return " ".join(filter(None, (*parts, f"seed {cell.seed}" if several_seeds else "")))


def _chip(one: CellProgress) -> CellChip:
    step = f"step {one.cell.link} of {one.cell.links}" if one.cell.links else ""
    marks = {"complete": "✓", "failed": "✕", "undefined": "–", "partial": f"· {one.rows:,} of {one.cell.asked:,}"}
    tip = f"{one.state}, {one.rows:,} of {one.cell.asked:,} rows" + (f": {one.reason}" if one.reason else "")
    return CellChip(" ".join(filter(None, (one.cell.severity, step))), one.state, marks.get(one.state, "○"), tip)


def _reasons(cells: Iterable[CellProgress]) -> list[Reason]:
    """Each reason of a failure once, with the cells that have it."""
    names = grouped((one.reason, f"{_group_title(one, False, False)} · {one.cell.scenario} {one.cell.severity}".strip()) for one in cells
                    if one.state == "failed")  # fmt: skip
    return [Reason(_listed(who), reason) for reason, who in names.items()]


def _listed(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
