"""run and plan: evaluate a suite, or list its cells with the estimated cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from robustvit.cli.exit_codes import CELLS_FAILED, INTERRUPTED
from robustvit.cli.printing import (
    err,
    escape,
    out,
    print_averages_without_value,
    print_gradients,
    print_marked,
    print_pages,
    print_undefined,
)
from robustvit.cli.progress import progress_shown
from robustvit.cli.run_options import RunOptions, takes_run_options

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

    if options.download:
        download_for_run(options)
    with progress_shown(options.quiet or options.as_json) as progress:
        try:
            done = runner.run(
                named_suite(options.suite, allow_code=options.allow_code), options.models, options.data,
                store=options.store, settings=options.settings, progress=progress or False, command=options.command,
            )  # fmt: skip
        except KeyboardInterrupt:
            err.print("\nInterrupted. What was finished is stored: the same command continues from there.")
            raise typer.Exit(INTERRUPTED) from None
    _print_run(done, options)
    if done.failed:
        raise typer.Exit(CELLS_FAILED)


def _print_run(done: Any, options: RunOptions) -> None:
    from robustvit.report.page import write_report
    from robustvit.results.leaderboard import leaderboard

    board = leaderboard(done.store, suite=done.suite)
    page = write_report(done.store, Path(done.store) / "report.html")
    if options.as_json:
        facts = {
            **asdict(done),
            "store": str(done.store),
            **{name: [str(path) for path in getattr(done, name)] for name in ("repaired", "repaired_digests")},
            "report": str(page),
        }
        print(json.dumps({**facts, "leaderboard": json.loads(board.to_json(orient="records"))}))
        return
    if not options.quiet:
        _print_all_of_run(done, options, board)
    elif done.stopped:
        err.print(_run_summary(done, options), highlight=False, soft_wrap=True)
    for cell, reason in done.failed.items():
        err.print(f"[red]failed:[/] {cell}: {escape(reason)}", soft_wrap=True)
    if not options.quiet:
        out.print(f"Report: {page}", soft_wrap=True, highlight=False)


def _print_all_of_run(done: Any, options: RunOptions, board: Any) -> None:
    """What a run found on the way, its leaderboard, and what is to be known of its numbers."""
    from robustvit.results.pages import pages

    for path in done.repaired:
        err.print(f"[yellow]damaged:[/] {escape(str(path))}: what it held is made again.", soft_wrap=True)
    for path in done.repaired_digests:
        err.print(
            f"[yellow]damaged:[/] {escape(str(path))}: it said which images the rows were computed on. It is made again from the images of "
            "now: that earlier rows are of the same ones is not checked for these samples.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    _print_data(done.incomplete, done.left_out)
    for label, notes in done.model_notes.items():
        err.print(f"[yellow]{escape(label)}:[/] {escape('. '.join(notes))}.", highlight=False, soft_wrap=True)
    print_undefined(done.undefined)
    if done.taken_over:
        err.print(
            f"{done.taken_over} cells of an earlier version, which knew the data by names and sizes, were taken over: a tile of each was "
            "computed anew and is equal.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    print_pages(pages(board), f"{done.suite} · {done.store}")
    _print_transfer(done.store, done.suite, board)
    print_gradients(board)
    print_marked(board)
    print_averages_without_value(board)
    out.print(_run_summary(done, options), highlight=False)


def _print_transfer(store: Path, suite: str, board: Any) -> None:
    """The matrices of a run that crafted images on surrogates."""
    from robustvit.cli.comparing import print_transfer
    from robustvit.results.parameters import crafted_elsewhere
    from robustvit.results.transfer_matrix import transfer_matrix

    if board["params"].map(crafted_elsewhere).any():
        print_transfer(transfer_matrix(store, suite=suite), "transfer")


def _run_summary(done: Any, options: RunOptions) -> str:
    """How many rows this run computed, and how many the store held."""
    if done.stopped:
        return (
            f"Stopped when the budget of {options.settings.budget} was spent: {done.complete} of {done.cells} cells are complete, "
            f"{done.computed:,} of {done.rows:,} rows computed in {done.seconds:.1f} s. The same command continues from there; "
            "until then robust accuracies are upper bounds."
        )
    lacking = f" {len(done.failed)} of {done.cells} cells failed." if done.failed else ""
    if done.computed or done.failed:
        held = "" if done.failed or done.computed == done.rows else "; the store held the others"
        return f"{done.computed:,} of {done.rows:,} rows computed in {done.seconds:.1f} s{held}.{lacking}"
    return f"Nothing to do: the store holds all {done.rows:,} rows of {done.cells} cells."


@takes_run_options
def plan(options: RunOptions) -> None:
    """Show what run would do: cells, time, disk. Nothing is written; scenarios whose cost is not declared are timed on a few noise images.

    Takes the arguments of run.

    Example: robustvit plan --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a plan downloads nothing
    from robustvit.evaluation import cost_estimate as estimates
    from robustvit.evaluation import requested
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
    cost = estimates.estimate(made, done)
    if options.as_json:
        page = {
            "cells": _planned(made, done),
            "damaged": [str(path) for path in damaged],
            "incomplete": made.incomplete,
            "left_out": omissions(made.samples),
        }
        print(json.dumps({**page, **asdict(cost)}))
        return
    _print_plan(made, done)
    if not options.quiet:
        print_undefined(undefined_cells(made))
        for path in damaged:
            err.print(f"[yellow]damaged:[/] {escape(str(path))}: run makes what it held again.", soft_wrap=True)
        _print_data(made.incomplete, omissions(made.samples))
        _print_not_here(made)
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


def _print_data(mismatches: Sequence[str], omissions: Sequence[str]) -> None:
    """Prints which data has not the images of its whole set, whose numbers these are not then, and what data leaves out."""
    for mark, sentences in (("not the whole set", mismatches), ("left out", omissions)):
        for sentence in sentences:
            err.print(f"[yellow]{mark}:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
