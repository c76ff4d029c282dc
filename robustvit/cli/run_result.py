"""What a run says when it is over: what it found on the way, its leaderboard, what is to be known of its numbers, and where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustvit.cli.printing import (
    err,
    escape,
    out,
    print_averages_without_value,
    print_gradients,
    print_json,
    print_marked,
    print_pages,
    print_undefined,
)
from robustvit.cli.run_options import RunOptions


def print_run(done: Any, options: RunOptions) -> None:
    """Prints all of it, or as JSON, or where it is to be quiet what went wrong."""
    from robustvit.report.live.current_page import write_current_report
    from robustvit.results.leaderboard import leaderboard

    board = leaderboard(done.store, suite=done.suite)
    page = write_current_report(done.store, Path(done.store) / "report.html")
    if options.as_json or options.output is not None:
        facts = {
            **asdict(done),
            "store": str(done.store),
            **{name: [str(path) for path in getattr(done, name)] for name in ("repaired", "repaired_digests")},
            "report": str(page),
        }
        print_json({**facts, "leaderboard": json.loads(board.to_json(orient="records"))}, options.output)
        return
    if not options.quiet:
        _print_all_of_run(done, options, board)
    else:
        print_data(done.skipped, [])
        if done.stopped:
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
    print_data(done.incomplete, done.left_out)
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


def log_run_numbers(done: Any, kind: str, quiet: bool) -> None:
    """Logs the numbers of a run, after they were printed, and says where unless it is to be quiet."""
    from robustvit.cli.commands.run_log import log_run
    from robustvit.results.leaderboard import leaderboard

    for place in log_run(kind, Path(done.store), leaderboard(done.store, suite=done.suite)):
        if not quiet:
            err.print(f"Logged to {place}", highlight=False, soft_wrap=True)


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


def print_data(mismatches: Sequence[str], omissions: Sequence[str]) -> None:
    """Prints which data has not the images of its whole set, whose numbers these are not then, and what data leaves out."""
    for mark, sentences in (("not the whole set", mismatches), ("left out", omissions)):
        for sentence in sentences:
            err.print(f"[yellow]{mark}:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
