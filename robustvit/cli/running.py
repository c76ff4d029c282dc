"""run and plan: a suite's questions, answered or counted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from robustvit.cli.exit_codes import CELLS_FAILED, INTERRUPTED
from robustvit.cli.printing import err, out, print_averages_without_value, print_gradients, print_summary
from robustvit.cli.progress import showing
from robustvit.cli.run_options import Request, asking

if TYPE_CHECKING:
    from robustvit.evaluation.plan import Plan


@asking
def run(asked: Request) -> None:
    """Run a suite; what the store has is not computed again.

    Ends with the leaderboard and the report. With nothing named: suite quick, model demo, data digits. Killed at any moment, the same command goes on where it stopped.

    Example: robustvit run --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    from robustvit.evaluation import run as runner

    with showing(asked.quiet or asked.as_json) as progress:
        try:
            done = runner.run(
                asked.suite, asked.models, asked.data, store=asked.store, settings=asked.settings, progress=progress, command=asked.command
            )
        except KeyboardInterrupt:
            err.print("\nInterrupted. What was finished is kept: the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from None
    _tell_run(done, asked)
    if done.failed:
        raise typer.Exit(CELLS_FAILED)


def _tell_run(done: Any, asked: Request) -> None:
    from robustvit.report.page import write_report
    from robustvit.results.leaderboard import leaderboard
    from robustvit.results.summary import summary

    board = leaderboard(done.store, suite=done.suite)
    page = write_report(done.store, Path(done.store) / "report.html")
    if asked.as_json:
        told = {**asdict(done), "store": str(done.store), "repaired": [str(path) for path in done.repaired], "report": str(page)}
        print(json.dumps({**told, "leaderboard": json.loads(board.to_json(orient="records"))}))
        return
    for path in done.repaired:
        err.print(f"[yellow]set aside:[/] {escape(str(path))} was not whole; its rows were computed anew.", soft_wrap=True)
    _tell_incomplete(done.incomplete)
    print_summary(summary(board), f"{done.suite} · {done.store}")
    print_gradients(board)
    print_averages_without_value(board)
    out.print(_came_to(done, asked), highlight=False)
    for cell, reason in done.failed.items():
        err.print(f"[red]failed:[/] {cell}: {escape(reason)}", soft_wrap=True)
    out.print(f"Report: {page}", soft_wrap=True, highlight=False)


def _came_to(done: Any, asked: Request) -> str:
    """How much of the work is done, and by whom."""
    if done.stopped:
        return (
            f"Stopped when the budget of {asked.settings.budget} was spent: {done.complete} of {done.cells} cells are complete, {done.computed:,} of "
            f"{done.rows:,} rows computed in {done.seconds:.1f} s. The same robustvit run again goes on from there; until then what attacks leave is an upper bound."
        )
    if done.computed:
        return f"{done.computed:,} of {done.rows:,} rows computed in {done.seconds:.1f} s; the rest was there."
    return f"Nothing to do: all {done.rows:,} rows of {done.cells} cells were there."


@asking
def plan(asked: Request) -> None:
    """What run would do: cells, time, disk. Nothing is computed.

    Takes the arguments of run.

    Example: robustvit plan --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a plan looks; it downloads nothing
    from robustvit.errors import StoreError
    from robustvit.evaluation import cost_estimate as estimates
    from robustvit.evaluation import plan as plans
    from robustvit.evaluation.kept_images import named_suite
    from robustvit.records.store import Store

    made = plans.make(named_suite(asked.suite), asked.models, asked.data, asked.settings, need_weights=False)
    place: Store | None
    try:
        place = Store(asked.store)
    except StoreError:
        if (asked.store / "store.json").exists():
            raise
        place = None
    cost = estimates.estimate(made, place)
    if asked.as_json:
        print(json.dumps({"cells": _planned(made, place), "incomplete": made.incomplete, **asdict(cost)}))
        return
    _print_plan(made, place, cost)


def _planned(made: Plan, place: Any) -> list[dict[str, Any]]:
    from robustvit.evaluation.manifest import title

    done = made.done(place)
    return [
        {
            "model": ask.label, "transforms": " → ".join(map(str, cell.transforms)), "scenario": title(cell, ask), "data": ask.samples.data.name, "seed": cell.seed,
            "wanted": ask.samples.asked,
            "cell": cell.id if cell.resolved else None, "done": done.get(cell.id, 0) if cell.resolved else 0,
        }
        for ask in made.asks
        for cell in ask.cells
    ]  # fmt: skip


def _print_plan(made: Plan, place: Any, cost: Any) -> None:
    data = ", ".join(dict.fromkeys(samples.data.name for samples in made.samples))
    asked = " or ".join(dict.fromkeys(f"{samples.asked:,}" for samples in made.samples))
    table = Table(title=f"{made.suite.name} · {data} · {asked} samples per cell")
    planned = _planned(made, place)
    told = [name for name in ("model", "transforms", "scenario") if name != "transforms" or any(row[name] for row in planned)]
    for heading in (*told, "cell", "rows", "state"):
        table.add_column(heading, justify="right" if heading == "rows" else "left", overflow="fold", no_wrap=heading == "cell")
    for row in planned:
        state = "unresolved" if row["cell"] is None else "done" if row["done"] >= row["wanted"] else "to do"
        table.add_row(*(row[name] for name in told), row["cell"] or "weights not at hand", f"{row['done']}/{row['wanted']}", state)
    out.print(table)
    for label, missing in dict.fromkeys((ask.label, ask.missing) for ask in made.asks if ask.missing):
        err.print(f"[yellow]{escape(label)}:[/] {escape(missing)}", soft_wrap=True)
    _tell_incomplete(made.incomplete)
    runs = _runs(made.settings.budget, cost.seconds)
    out.print(f"To do: {cost.rows_to_do:,} of {cost.rows:,} rows. {cost.sentence}{runs}", highlight=False, soft_wrap=True)


def _runs(budget: str | float | None, wanted: float | None) -> str:
    """How many runs of that budget the work takes."""
    from robustvit.evaluation.time_budget import seconds

    if budget is None or not wanted:
        return ""
    count = math.ceil(wanted / seconds(budget))
    return f" At --budget {budget} that is about {count} run{'' if count == 1 else 's'}."


def _tell_incomplete(sentences: Sequence[str]) -> None:
    """Which data lacks pictures: its numbers are not those of the whole set."""
    for sentence in sentences:
        err.print(f"[yellow]incomplete:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
