"""run and plan: evaluate a suite, or list its cells with the estimated cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from robustvit.cli.exit_codes import CELLS_FAILED, INTERRUPTED
from robustvit.cli.printing import (
    err,
    escape,
    out,
    print_json,
    print_undefined,
)
from robustvit.cli.progress import progress_shown
from robustvit.cli.run_options import RunOptions, takes_run_options
from robustvit.cli.run_result import log_run_numbers, print_data, print_run
from robustvit.errors import UsageError

if TYPE_CHECKING:
    from robustvit.evaluation.plan import Plan


@takes_run_options
def run(options: RunOptions) -> None:
    """Run a suite; what the store holds is not computed again.

    Ends with the leaderboard and the report. Defaults: suite quick, model demo, data digits. Killed at any moment, the same command
    continues where it stopped.

    Example: robustvit run --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    from robustvit.cli.downloading import download_for_run
    from robustvit.evaluation import run as runner
    from robustvit.evaluation.images.kept_suite import named_suite

    if options.measure:
        raise UsageError("--measure is for plan; run measures nothing beside its work.")
    if options.download:
        download_for_run(options)
    with progress_shown(options.quiet or options.as_json, "%") as progress:
        try:
            done = runner.run(
                named_suite(options.suite, allow_code=options.allow_code), options.models, options.data,
                store=options.store, settings=options.settings, progress=progress or False, command=options.command,
            )  # fmt: skip
        except KeyboardInterrupt:
            err.print("\nInterrupted. What was finished is stored: the same command continues from there.")
            raise typer.Exit(INTERRUPTED) from None
    if done.rank:
        return  # the first process tells; an exit code of another would end it
    print_run(done, options)
    if options.log_to is not None:
        log_run_numbers(done, options.log_to, options.quiet)
    if done.failed:
        raise typer.Exit(CELLS_FAILED)


@takes_run_options
def plan(options: RunOptions) -> None:
    """Show what run would do: cells, time, disk. Nothing is written.

    Takes the arguments of run. The time is that of the models' operations at the speed that earlier runs had here; --measure times them.

    Example: robustvit plan --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a plan downloads nothing
    from robustvit.evaluation import requested
    from robustvit.evaluation.cost import estimate as estimates
    from robustvit.evaluation.datasets import omissions
    from robustvit.evaluation.images.kept_suite import named_suite
    from robustvit.evaluation.manifest import undefined_cells
    from robustvit.records.store import Store

    made = requested.make(
        named_suite(options.suite, allow_code=options.allow_code), options.models, options.data, options.settings, need_weights=False
    )
    store = Store(options.store) if Store.is_at(options.store) else None
    if store is not None:
        made.take_artifacts(store)
    damaged = made.damaged(store)
    done = made.done(store, damaged)
    cost = estimates.estimate(made, done, measure=options.measure)
    if options.as_json or options.output is not None:
        page = {
            "cells": _planned(made, done),
            "damaged": [str(path) for path in damaged],
            "incomplete": made.incomplete,
            "left_out": omissions(made.samples),
        }
        print_json({**page, **asdict(cost)}, options.output)
        return
    _print_plan(made, done)
    if not options.quiet:
        print_undefined(undefined_cells(made))
        for path in damaged:
            err.print(f"[yellow]damaged:[/] {escape(str(path))}: run makes what it held again.", soft_wrap=True)
        print_data(made.incomplete, omissions(made.samples))
        _print_not_here(made)
    else:
        print_data(made.skipped_told, [])
    runs = _runs(made.settings.budget, cost.seconds)
    out.print(f"To do: {cost.rows_to_do:,} of {cost.rows:,} rows. {cost.sentence}{runs}", highlight=False, soft_wrap=True)


def _planned(made: Plan, done: Mapping[str, int]) -> list[dict[str, Any]]:
    from robustvit.evaluation.manifest import title
    from robustvit.spec.written.pipeline import pipeline_text

    return [
        {
            "model": ask.label, "transforms": pipeline_text(cell.transforms), "scenario": title(cell, ask, made),
            "data": ask.samples.data.name, "seed": cell.seed, "wanted": ask.samples.asked,
            "cell": cell.id if cell.resolved else None, "done": done.get(cell.id, 0) if cell.resolved else 0,
            "undefined": made.why_undefined(ask, cell),
        }
        for ask in made.planned
        for cell in ask.cells
    ]  # fmt: skip


def _print_plan(made: Plan, done: Mapping[str, int]) -> None:
    data = ", ".join(dict.fromkeys(samples.data.name for samples in made.samples))
    counts = " or ".join(dict.fromkeys(f"{samples.asked:,}" for samples in made.samples))
    table = Table(title=f"{made.suite.name} · {data} · {counts} samples per cell")
    planned = _planned(made, done)
    named = [name for name in ("model", "transforms", "scenario") if name != "transforms" or any(row[name] for row in planned)]
    for heading in (*named, "cell", "rows", "state"):
        table.add_column(heading, justify="right" if heading == "rows" else "left", overflow="fold", no_wrap=heading == "cell")
    for row in planned:
        state = (
            "undefined"
            if row["undefined"]
            else "unresolved"
            if row["cell"] is None
            else "done"
            if row["done"] >= row["wanted"]
            else "to do"
        )
        table.add_row(*(row[name] for name in named), row["cell"] or "weights not here", f"{row['done']}/{row['wanted']}", state)
    out.print(table)


def _print_not_here(made: Plan) -> None:
    for label, missing in dict.fromkeys((ask.label, ask.missing) for ask in made.planned if ask.missing):
        err.print(f"[yellow]{escape(label)}:[/] {escape(missing)}", soft_wrap=True)


def _runs(budget: str | float | None, needed: float | None) -> str:
    """About how many runs of that budget the work takes, as a sentence."""
    from robustvit.evaluation.time_budget import seconds

    if budget is None or not needed:
        return ""
    count = math.ceil(needed / seconds(budget))
    return f" At --budget {budget} that is about {count} run{'' if count == 1 else 's'}."
