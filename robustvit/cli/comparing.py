"""Comparisons of what a store holds: of two models, of two stores, and of all models as sources and targets of attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustvit.cli.exit_codes import AsJson, JsonFile, ModelNames, Output, StorePath, SuiteName, one_format, read_store
from robustvit.cli.printing import escape, out, place_name, print_frame, print_json, print_table

_RIGHT = ("n", "label", "a", "b", "a − b", "b − a", "p")
_LONGEST = 60  # letters of a verdict that is counted by its name
_SHARES = {"both": "success_both", "all": "success_all"}


def compare(
    model_a: Annotated[str, typer.Argument(help='A model\'s label in the store; "LABEL+tome(r=8)" for what was transformed.')],
    model_b: Annotated[str, typer.Argument(help="Another one.")],
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    flips: Annotated[bool, typer.Option("--flips", help="List the samples that one has correct and the other misclassifies.")] = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Paired tests of two models, cell by cell.

    McNemar's exact test on the samples of both, corrected by Holm for the many comparisons. Shown are both top-1 accuracies in %, their
    difference in points with its paired 95 % interval, and the corrected p.

    Example: robustvit compare demo mine --suite imagenet-c
    """
    from robustvit.results import comparison

    with read_store(store) as opened:
        frame = (comparison.flips if flips else comparison.compare)(opened, model_a, model_b, suite=suite)
        _show(frame, str(model_a), str(model_b), as_json, output)


def diff(
    store_a: Annotated[Path, typer.Argument(help="A store.")],
    store_b: Annotated[Path, typer.Argument(help="Another one.")],
    suite: SuiteName = None,
    model: ModelNames = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """What differs between two stores, and whether by chance.

    `robustvit report --store A --against B` shows the same as a page.

    Example: robustvit diff results-old results-new
    """
    from robustvit.results import comparison

    with read_store(store_a) as a, read_store(store_b) as b:
        _show(comparison.diff(a, b, suite=suite, models=model), str(store_a), str(store_b), as_json, output)


def _show(frame: Any, a: str, b: str, as_json: bool, output: Path | None) -> None:
    """Prints JSON with everything, or tables that fit a terminal, with what they leave out in lines above and below."""
    if as_json or output is not None:
        print_json(frame.to_json(orient="records"), output)
        return
    from robustvit.cli.comparison_pages import comparison_pages, flip_pages, folded

    found = comparison_pages(frame) if "verdict" in frame else flip_pages(frame)
    _print_lines(f"a: {a}", f"b: {b}", found.same)
    for page in found.pages:
        _print_lines(page.title)
        print_frame(folded(page, out.width).table, "", _RIGHT)
    _print_lines(*found.notes, _sentence(frame))


def _print_lines(*lines: str) -> None:
    for line in filter(None, lines):
        out.print(escape(line), highlight=False, soft_wrap=True)


def _sentence(frame: Any) -> str:
    if "verdict" not in frame:
        return f"{len(frame):,} samples that one has correct and the other misclassifies, in {frame['cell'].nunique():,} cells."
    counts = frame["verdict"].where(frame["verdict"].str.len() <= _LONGEST, "see above").value_counts()
    verdicts = ", ".join(f"{count} {name}" for name, count in counts.items())
    verdicts = verdicts.replace("no difference shown", "no difference shown (–)")
    return f"{len(frame)} cells: {verdicts}. Top-1 in %, p is McNemar's after Holm. --json has every column."


def transfer(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    over: Annotated[str, typer.Option("--over", help="both: samples that are right when clean at source and target; all: every sample.")]
        = "both",
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, json, md or latex; csv and json hold every number.")] = "table",
    output: Output = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """How often images crafted on one model fool another.

    One row for each attack and source, one column for each target: the success rate in %, its interval, and of how many samples. csv and
    json have both rates, T[i,j]/T[i,i] and paired tests.

    Example: robustvit transfer --suite transfer-zoo --format csv -o transfer.csv
    """
    from robustvit.results.table_formats import check_choice, check_format
    from robustvit.results.transfer_matrix import transfer_matrix

    format = one_format(as_json, format)
    check_format(format)
    check_choice("--over", over, list(_SHARES))
    with read_store(store) as opened:
        print_transfer(transfer_matrix(opened, suite=suite, models=model), f"transfer · {place_name(store)}", over, format, output)


def print_transfer(table: Any, title: str, over: str = "both", format: str = "table", output: Path | None = None) -> None:
    """Prints or writes a transfer matrix; on a terminal with intervals where these fit."""
    from robustvit.results.transfer_pages import brief_page, legend, matrix_page

    samples = (
        "right when clean on both sides (at the target alone, where the source has other classes)"
        if over == "both"
        else "in all, clean errors among the successes"
    )
    sentence = f"Success in % of the samples {samples}; a row is the model that the images were crafted on, a column the target."
    page = matrix_page(table, _SHARES[over])
    if format == "table" and output is None and sum(int(page[name].map(len).max()) + 3 for name in page) > out.width:
        page = brief_page(table, _SHARES[over])
        sentence += f" {legend(table, _SHARES[over])} --format md, csv and json have the intervals and counts."
    print_table(table, page, title, format, output, "" if format in ("csv", "json") else sentence)
