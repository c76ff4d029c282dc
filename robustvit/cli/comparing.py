"""Comparisons of what a store holds: of two models, of two stores, and of all models as sources and targets of attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustvit.cli.exit_codes import AsJson, ModelNames, StorePath, SuiteName
from robustvit.cli.printing import out, print_frame, print_table

_SHOWN = ("scenario", "severity", "n", "acc_a", "acc_b", "p_holm", "verdict", "sample", "label", "pred_a", "pred_b")
_SHOWN_IF_SEVERAL = ("model", "suite", "data", "params", "transforms", "seed", "precision", "storage")
_SHARES = {"both": "success_both", "all": "success_all"}


def compare(
    model_a: Annotated[str, typer.Argument(help='A model\'s label in the store; "LABEL+tome(r=8)" for what was transformed.')],
    model_b: Annotated[str, typer.Argument(help="Another one.")],
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    flips: Annotated[bool, typer.Option("--flips", help="List the samples that one has correct and the other misclassifies.")] = False,
    as_json: AsJson = False,
) -> None:
    """Paired tests of two models, cell by cell.

    McNemar's exact test on the samples of both, corrected by Holm for the many comparisons.

    Example: robustvit compare demo mine --suite imagenet-c
    """
    from robustvit.results import comparison

    frame = comparison.flips(store, model_a, model_b, suite=suite) if flips else comparison.compare(store, model_a, model_b, suite=suite)
    _show(frame, f"{model_a} against {model_b}", as_json)


def diff(
    store_a: Annotated[Path, typer.Argument(help="A store.")],
    store_b: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """What differs between two stores, and whether by chance.

    Example: robustvit diff results-old results-new
    """
    from robustvit.results import comparison

    _show(comparison.diff(store_a, store_b), f"{store_a} → {store_b}", as_json)


def _show(frame: Any, title: str, as_json: bool) -> None:
    """Prints JSON with everything, or a table that fits a terminal: what differs from row to row, the numbers, the verdict."""
    if as_json:
        print(frame.to_json(orient="records"))
        return
    several = [name for name in _SHOWN_IF_SEVERAL if name in frame and frame[name].nunique(dropna=False) > 1]
    marked = [name for name in ("partial",) if name in frame and (frame[name] != "").any()]
    shown = [name for name in frame.columns if name in _SHOWN or name in several or name in marked]
    print_frame(frame[shown], title)
    if "verdict" in frame:
        verdicts = ", ".join(f"{count} {name}" for name, count in frame["verdict"].value_counts().items())
        out.print(f"{len(frame)} cells: {verdicts}. --json has every column.", highlight=False, soft_wrap=True)


def transfer(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    over: Annotated[str, typer.Option("--over", help="both: samples that are right when clean at source and target; all: every sample.")]
        = "both",
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, json, md or latex; csv and json hold every number.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of printing.")] = None,
) -> None:  # fmt: skip
    """How often images crafted on one model fool another.

    One row for each attack and source, one column for each target: the success rate in %, its interval, and of how many samples. csv and
    json have both rates, T[i,j]/T[i,i] and paired tests.

    Example: robustvit transfer --suite transfer-zoo --format csv -o transfer.csv
    """
    from robustvit.results.table_formats import check_choice, check_format
    from robustvit.results.transfer_matrix import transfer_matrix

    check_format(format)
    check_choice("--over", over, list(_SHARES))
    print_transfer(transfer_matrix(store, suite=suite, models=model), f"transfer · {store}", over, format, output)


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
