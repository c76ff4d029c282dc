"""The tables of a store: leaderboard and factors."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustvit.cli.exit_codes import AsJson, ModelNames, Output, StorePath, SuiteName, named_file, one_format, read_store
from robustvit.cli.printing import (
    err,
    escape,
    exit_if_failed,
    print_gradients,
    print_marked,
    print_page,
    print_pages,
    print_table,
)
from robustvit.errors import UsageError

if TYPE_CHECKING:
    from robustvit.results.leaderboard import Leaderboard


def leaderboard(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="NAME or NAME?key=value: only these; any registered one works on any store.")
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="table, csv, parquet, json, md, latex, robustbench, timm, model-index, lm-eval or dataset (the last two, and one file a "
            "model of several, into a folder); with --published table, csv, json, md or latex.",
        ),
    ] = "table",
    output: Output = None,
    as_json: AsJson = False,
    per: Annotated[
        str | None, typer.Option("--per", help="The usual table of papers, a row for each model: corruption, severity, attack or data.")
    ] = None,
    ranks: Annotated[
        bool, typer.Option("--ranks", help="The rank of each model by each number, with ties where a paired test shows no difference.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Published numbers beside the measured ones, where there are any.")
    ] = False,
    references: Annotated[
        Path | None, typer.Option("--references", help="Published numbers of your own (CSV); implies --published.")
    ] = None,
) -> None:
    """The leaderboard of a store, each number with its interval.

    Table, md and latex show a summary, ranks, then every other number by metric and scenario; the other formats are tidy, one row per
    number.

    Example: robustvit leaderboard --suite imagenet-c --per corruption --format latex -o errors.tex
    """
    from robustvit.results.export import FORMATS, export
    from robustvit.results.leaderboard import build_leaderboard
    from robustvit.results.ranks.rank_tables import pages_with_ranks
    from robustvit.results.table_formats import check_choice
    from robustvit.spec.written.call import called

    format = one_format(as_json, format)
    check_choice("--format", format, ("table", *FORMATS))
    metrics = None if metric is None else [called(text, "metric") for text in metric]
    with read_store(store) as opened:
        board = build_leaderboard(opened, suite=suite, models=model, metrics=metrics)
        if ranks and (per is not None or published or references is not None):
            raise UsageError("--ranks shows ranks alone, without --per, --published or --references.")
        if ranks:
            _print_ranks(board, format, output)
            return
        if published or references is not None:
            if per is not None:
                raise UsageError("--per shows measured numbers alone, and --published those beside published ones; give one of them.")
            _print_published(board, references, format, output)
            return
        if per is not None:
            _print_paper_tables(board, per, metric is not None, format, output)
            return
        if format == "table" and output is None:
            print_pages(pages_with_ranks(board), str(store))
            print_gradients(board.rows)
            print_marked(board.rows)
        else:
            text = export(board, "md" if format == "table" else format, output)
            if output is None:
                sys.stdout.write(text)
            else:
                err.print(f"Wrote {output}", highlight=False, soft_wrap=True)
        exit_if_failed(board.rows)


def _print_paper_tables(board: Leaderboard, per: str, every: bool, format: str, output: Path | None) -> None:
    """Tables with a row for each model."""
    from robustvit.results.paired_best import PairedTests
    from robustvit.results.paper_tables import paper_tables
    from robustvit.results.table_formats import FORMATS, format_pages, save_file

    if format not in FORMATS:
        raise UsageError(f"--per writes {', '.join(FORMATS)}, and not '{format}'.")
    found = paper_tables(board.rows, per, every=every, tests=PairedTests(board) if format == "latex" else None)
    if format == "table" and output is None:
        for page in found.pages:
            print_page(page)
    else:
        text = format_pages(found.tidy, found.pages, "md" if format == "table" else format)
        if output is None:
            sys.stdout.write(text)
        else:
            err.print(f"Wrote {save_file(text, output)}", highlight=False, soft_wrap=True)
    exit_if_failed(board.rows)


def _print_ranks(board: Leaderboard, format: str, output: Path | None) -> None:
    """Ranks by each headline number; csv and json have a row for each number."""
    from robustvit.results.paired_best import PairedTests
    from robustvit.results.ranks.rank_tables import rank_pages, rank_table
    from robustvit.results.table_formats import FORMATS, format_pages, save_file

    if format not in FORMATS:
        raise UsageError(f"--ranks writes {', '.join(FORMATS)}, and not '{format}'.")
    tests = PairedTests(board)
    found = [page for _, part in board.rows.groupby("suite", sort=False) for page in rank_pages(part, tests)]
    if not found and format in ("table", "md", "latex"):
        raise UsageError("there is nothing to rank: no two models have a complete number that a paired test compares.")
    if format == "table" and output is None:
        for page in found:
            print_page(page)
        return
    text = format_pages(rank_table(board, tests), found, "md" if format == "table" else format)
    if output is None:
        sys.stdout.write(text)
    else:
        err.print(f"Wrote {save_file(text, output)}", highlight=False, soft_wrap=True)


def _print_published(board: Leaderboard, own: Path | None, format: str, output: Path | None) -> None:
    """Published numbers beside measured ones."""
    from robustvit.results.published.agreement import beside, page
    from robustvit.results.published.files import read_references
    from robustvit.results.table_formats import check_format

    check_format(format)
    known = None if own is None else read_references(own, bases=board.rows["base"].unique())
    found = beside(board, known)
    if own is not None or not len(found):
        _print_unmatched(board, known, "The published numbers" if own is None else str(own))
    print_table(found, page(found), "published beside measured", format, output)
    exit_if_failed(board.rows)


def _print_unmatched(board: Leaderboard, known: Any, name: str) -> None:
    """Prints to the standard error why numbers of a file have no measured one, with how many; nothing where all have."""
    from robustvit.results.published.agreement import unmatched

    missing = unmatched(board, known)
    if not missing:
        return
    lines = [f"{name}: {sum(one.rows for one in missing)} without a measured one:", *(f"  {one}" for one in missing)]
    if missing[0].reason == "model not here":
        lines.append("  Models are known by timm's name with its tag, not by their labels.")
    err.print(escape("\n".join(lines)), highlight=False, soft_wrap=True)


def factors(
    store: StorePath = Path("results"),
    published: Annotated[bool, typer.Option("--published", help="The published models instead of a store.")] = False,
    suite: SuiteName = None,
    model: ModelNames = None,
    shift: Annotated[
        str | None,
        typer.Option(
            "--shift",
            help="The score beside the clean accuracy: imagenet-a, 'pgd 4/255', mce_alexnet, … Default: imagenet-a, or the first there is.",
        ),
    ] = None,
    fit: Annotated[str | None, typer.Option("--fit", help="effective, augreg or scaling; default none, the view itself.")] = None,
    line: Annotated[
        str, typer.Option("--line", help="For --fit effective, the models that the line is fitted over: own or published.")
    ] = "own",
    factor: Annotated[
        list[str] | None, typer.Option("--factor", help="For --fit augreg; repeat for several. Default: pretraining and kind.")
    ] = None,
    cost: Annotated[str, typer.Option("--cost", help="macs, parameters, weight_bytes, moved_bytes, peak_bytes or latency.")] = "macs",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the score against cost into this SVG file.", callback=named_file)
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, json, md or latex.")] = "table",
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """How models were trained, what they cost, how robust they are.

    One row per model: the factors in its tag, parameters, MACs, scores. A * marks the Pareto front of score and cost, a ? what
    noise could decide otherwise. --fit effective: the
    accuracy on a shift beyond what the clean one predicts; augreg: a regression on factors; scaling: a power law over cost.

    Example: robustvit factors --published --shift imagenet-a --fit effective
    """
    from robustvit.results.factors.pareto_front import ScoreTests
    from robustvit.results.factors.tables import FITS, default_shift, factor_table
    from robustvit.results.factors.view import COSTS, factor_view
    from robustvit.results.leaderboard import build_leaderboard
    from robustvit.results.table_formats import check_choice, check_format, save_file

    format = one_format(as_json, format)
    check_format(format)
    check_choice("--fit", fit or "effective", FITS)
    check_choice("--line", line, ("own", "published"))
    check_choice("--cost", cost, list(COSTS))
    for option, given, fits in (("--factor", factor, fit == "augreg"), ("--line published", line == "published", fit == "effective")):
        if given and not fits:
            raise UsageError(f"{option} is for --fit {'augreg' if option == '--factor' else 'effective'}.")
    if published and (suite or model):
        raise UsageError("--published shows the published models; --suite and --model choose from a store.")
    if plot is not None and output is not None and plot.absolute() == output.absolute():
        raise UsageError(f"--plot and --output both write {plot}; give two places.")
    with nullcontext() if published else read_store(store) as opened:
        board = None if opened is None else build_leaderboard(opened, suite=suite, models=model)
        view, tests = factor_view(board), ScoreTests(board)
        shift = shift or default_shift(view)
        if plot is not None:
            from robustvit.report.pareto_plot import pareto_plot
            from robustvit.report.scatter import svg

            written = save_file(svg(pareto_plot(view, shift, cost, tests=tests), standalone=True), plot)
            err.print(f"Wrote {written}", highlight=False, soft_wrap=True)
        found = factor_table(view, fit, shift, cost, factor or None, factor_view() if line == "published" else None, tests)
        title = f"{fit or 'factors'} · {'published' if published else store}"
        print_table(found.table, found.page, title, format, output, found.sentence)
