"""The pages and figures of a store: report, figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustvit.cli.exit_codes import ModelNames, StorePath, SuiteName, exit_if_damaged, named_file, read_store
from robustvit.cli.printing import err, out
from robustvit.errors import UsageError


def figure(
    name: Annotated[str, typer.Argument(help="corruptions, attacks, certified, transforms, lesions, heat-map, overview or pareto.")],
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    against: Annotated[str | None, typer.Option("--against", help="For overview: a reference model of the store.")] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="For pareto: mce_alexnet, 'pgd 4/255', … Default: what the report draws.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option("--cost", help="For pareto: macs, parameters, weight_bytes, moved_bytes, peak_bytes or latency.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file: .pdf, .svg or .png.", callback=named_file)] = Path("figure.pdf"),
) -> None:
    """A figure of the report as a file, for a paper or a slide.

    overview: one model under all families of perturbations; pareto: robustness over cost. Needs matplotlib (python3 -m pip install
    'robustvit[figures]'), but for these two as SVG.

    Example: robustvit figure overview --model demo -o demo.svg
    """
    from robustvit.report.papers.figure_files import check_figure, write_figure

    check_figure(name, output, against=against, score=score, cost=cost)
    with read_store(store) as opened:
        written = write_figure(opened, name, output, suite=suite, models=model, against=against, score=score, cost=cost)
        err.print(f"Wrote {written}", highlight=False, soft_wrap=True)


def report(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The HTML file; default report.html.", callback=named_file)] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="A folder instead: the page, and the rows and images of its samples beside it.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another store, of the same suite run again: the page compares the two.")
    ] = None,
) -> None:
    """One self-contained HTML page of a store, or of two; it needs no network.

    --against compares two runs of a suite (two versions of the library, two machines, a model before and after a change): provenance side
    by side, verdicts, paired differences of every cell, and the samples whose prediction changed.

    Example: robustvit report --store results -o report.html
    """
    from robustvit.report.page import write_bundle, write_report
    from robustvit.report.two_stores.comparison_page import open_other

    if bundle is not None and output is not None:
        raise UsageError("--bundle writes a folder, and --output one file; give one of them.")
    with read_store(store) as opened:
        other = None if against is None else open_other(opened, against)
        if bundle is not None:
            page = write_bundle(opened, bundle, suite=suite, models=model, against=other)
        else:
            page = write_report(opened, output or Path("report.html"), suite=suite, models=model, against=other)
        out.print(f"Report: {page}", highlight=False, soft_wrap=True)
        if other is not None:
            exit_if_damaged(other)
