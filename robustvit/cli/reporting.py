"""The pages and figures of a store: report, figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustvit.cli.exit_codes import ModelNames, StorePath, SuiteName, named_file
from robustvit.cli.printing import err, out
from robustvit.errors import UsageError


def figure(
    name: Annotated[str, typer.Argument(help="corruptions, attacks, certified, transforms, lesions or heat-map.")],
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file: .pdf, .svg or .png.", callback=named_file)] = Path("figure.pdf"),
) -> None:
    """A figure of the report as a file for a paper. Needs matplotlib: python3 -m pip install 'robustvit[figures]'.

    Example: robustvit figure attacks --suite linf -o attacks.pdf
    """
    from robustvit.report.papers.figure_files import write_figure

    err.print(f"Wrote {write_figure(store, name, output, suite=suite, models=model)}", highlight=False, soft_wrap=True)


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

    if bundle is not None and output is not None:
        raise UsageError("--bundle writes a folder, and --output one file; give one of them.")
    if bundle is not None:
        page = write_bundle(store, bundle, suite=suite, models=model, against=against)
    else:
        page = write_report(store, output or Path("report.html"), suite=suite, models=model, against=against)
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)
