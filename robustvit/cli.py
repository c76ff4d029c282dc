"""The command line: every verb a thin door to a function of the library. Only this module prints.

Exit codes: 0 success, 1 something could not be done, 2 the request is wrong, 3 some cells failed, 130 interrupted.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robustvit.errors import RobustvitError, UsageError

if TYPE_CHECKING:
    from robustvit.batch import Data
    from robustvit.plan import Plan, Settings
    from robustvit.runner import Progress
    from robustvit.spec import Spec
    from robustvit.verification import Verdict

CELLS_FAILED = 3
INTERRUPTED = 130

app = typer.Typer(
    name="robustvit",
    help="How robust is a vision transformer? A suite file, one command, a leaderboard with intervals.",
    epilog="Start with robustvit run: the bundled demo model on real handwritten digits, in about a minute.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": lambda token: token.replace("_", "-")},
)
_DEMO = "vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs=img_size=32,patch_size=8,embed_dim=96,depth=4,num_heads=3"

out = Console()
err = Console(stderr=True)

StorePath = Annotated[Path, typer.Option("--store", help="The directory of Records.", envvar="ROBUSTVIT_STORE")]
SuiteName = Annotated[str | None, typer.Option("--suite", "-s", help="Only this suite.")]
ModelNames = Annotated[list[str] | None, typer.Option("--model", "-m", help="Only these models (labels); repeat for several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


_TOLD = ("scenario", "severity", "n", "acc_a", "acc_b", "p_holm", "verdict", "sample", "label", "pred_a", "pred_b")
_TOLD_IF_SEVERAL = ("model", "suite", "data", "params", "transforms", "seed", "precision", "storage")


@dataclass(frozen=True)
class Request:
    """What run and plan are asked."""

    models: list[str | Spec]
    suite: str
    data: str | None
    store: Path
    settings: Settings
    as_json: bool
    quiet: bool
    command: str


def _request(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="vit_b16, any timm name, hf/ORG/NAME, file:PATH?arch=NAME, package.module:factory, demo; repeat for several. Default: demo.")] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Weights for the one --model: safetensors, or a file that loads with weights only.")] = None,
    model_kwargs: Annotated[list[str] | None, typer.Option("--model-kwargs", help="k=v for the model's constructor; repeat for several.")] = None,
    num_classes: Annotated[int | None, typer.Option("--num-classes", help="Classes of the one --model, where its checkpoint differs.")] = None,
    suite: Annotated[str, typer.Option("--suite", "-s", help="A suite by name or file.")] = "quick",
    data: Annotated[str | None, typer.Option("--data", "-d", help="digits, imagenet, folder:PATH, npz:PATH, hfds/ORG/NAME; default the suite's own.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the data's files are; for a suite on several data sets, the folder that holds theirs by name.")] = None,
    store: StorePath = Path("results"),
    limit: Annotated[float | None, typer.Option("--limit", "-L", help="Samples per cell: a number, or a share below 1. A fair sample; growing it reuses everything.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Rows the model sees at once.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-j", help="Threads that decode images beside each other.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, …")] = "cpu",
    precision: Annotated[str, typer.Option("--precision", help="float32, bfloat16 or float16; part of the cell.")] = "float32",
    seed: Annotated[int | None, typer.Option("--seed", help="Of every draw; default the suite's own.")] = None,
    img_size: Annotated[int | None, typer.Option("--img-size", help="Side of what the model sees; part of the cell.")] = None,
    crop_pct: Annotated[float | None, typer.Option("--crop-pct", help="Share of the resized picture that the crop keeps; part of the cell.")] = None,
    interpolation: Annotated[str | None, typer.Option("--interpolation", help="bicubic, bilinear, …; part of the cell.")] = None,
    storage: Annotated[str | None, typer.Option("--storage", help="jpeg85: store corrupted pictures as the released files are; part of the cell.")] = None,
    keep: Annotated[list[str] | None, typer.Option("--keep", help="Also keep: logits.")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> Request:  # fmt: skip
    from robustvit.address import parse_model
    from robustvit.plan import Settings
    from robustvit.suite import Overrides, bind_storage

    models = list(model or ["demo"])
    named: list[str | Spec] = list(models)
    one = checkpoint is not None or bool(model_kwargs) or num_classes is not None
    if one and len(models) != 1:
        raise UsageError(
            f"--checkpoint, --model-kwargs and --num-classes are for one --model; {len(models)} are named. Use file:PATH?arch=NAME."
        )
    if one:
        pairs = dict(_pair(text) for text in model_kwargs or [])
        named = [parse_model(models[0], checkpoint=checkpoint, model_kwargs=pairs, num_classes=num_classes)]
    share = limit if limit is None or (limit < 1 or not float(limit).is_integer()) else int(limit)
    settings = Settings(
        device=device, batch_size=batch_size, workers=workers, precision=precision, limit=share, seed=seed, keep=tuple(keep or ()),
        view=Overrides(img_size, crop_pct, interpolation), data_dir=data_dir,
        storage=None if storage is None else bind_storage(storage, "--storage"),
    )  # fmt: skip
    return Request(named, suite, data, store, settings, as_json, quiet, _typed())


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--model-kwargs '{text}': write key=value, for instance patch_size=8.")
    return key, value


def _typed() -> str:
    """The command as it was typed, after robustvit."""
    import shlex

    shown_only = ("-q", "--quiet", "--json", "-v", "--verbose")
    return " ".join(["robustvit", *(shlex.quote(word) for word in sys.argv[1:] if word not in shown_only)])


def _asking(verb: Callable[[Request], None]) -> Callable[..., None]:
    """A command with the arguments of _request, so that plan and run cannot drift apart."""

    @functools.wraps(_request)
    def command(**given: Any) -> None:
        verb(_request(**given))

    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    return command


@app.command()
@_asking
def run(asked: Request) -> None:
    """Run a suite; what the store has is not computed again.

    Ends with the leaderboard and the report. With nothing named: suite quick, model demo, data digits. Killed at any moment, the same command goes on where it stopped.

    Example: robustvit run --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    from robustvit import runner

    with _showing(asked.quiet or asked.as_json) as progress:
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
    from robustvit.board import leaderboard, summary
    from robustvit.report.page import write_report

    board = leaderboard(done.store, suite=done.suite)
    page = write_report(done.store, Path(done.store) / "report.html")
    if asked.as_json:
        told = {**asdict(done), "store": str(done.store), "repaired": [str(path) for path in done.repaired], "report": str(page)}
        print(json.dumps({**told, "leaderboard": json.loads(board.to_json(orient="records"))}))
        return
    for path in done.repaired:
        err.print(f"[yellow]set aside:[/] {escape(str(path))} was not whole; its rows were computed anew.", soft_wrap=True)
    _tell_incomplete(done.incomplete)
    _print_board(summary(board), f"{done.suite} · {done.store}")
    _tell_partial_averages(board)
    if done.computed:
        out.print(f"{done.computed:,} of {done.rows:,} rows computed in {done.seconds:.1f} s; the rest was there.", highlight=False)
    else:
        out.print(f"Nothing to do: all {done.rows:,} rows of {done.cells} cells were there.", highlight=False)
    for cell, reason in done.failed.items():
        err.print(f"[red]failed:[/] {cell}: {escape(reason)}", soft_wrap=True)
    out.print(f"Report: {page}", soft_wrap=True, highlight=False)


@app.command()
@_asking
def plan(asked: Request) -> None:
    """What run would do: cells, time, disk. Nothing is computed.

    Takes the arguments of run.

    Example: robustvit plan --model vit_b16 --suite imagenet-c --data-dir /data/imagenet
    """
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a plan looks; it downloads nothing
    from robustvit import estimate as estimates
    from robustvit import plan as plans
    from robustvit.errors import StoreError
    from robustvit.store import Store
    from robustvit.suite import load_suite

    made = plans.make(load_suite(asked.suite), asked.models, asked.data, asked.settings, need_weights=False)
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
    from robustvit import plan as plans

    done = made.done(place)
    return [
        {
            "model": ask.label, "scenario": plans.title(cell, ask), "data": ask.samples.data.name, "seed": cell.seed,
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
    for heading in ("model", "scenario", "cell", "rows", "state"):
        table.add_column(heading, justify="right" if heading == "rows" else "left")
    for row in _planned(made, place):
        state = "unresolved" if row["cell"] is None else "done" if row["done"] >= row["wanted"] else "to do"
        table.add_row(row["model"], row["scenario"], row["cell"] or "weights not at hand", f"{row['done']}/{row['wanted']}", state)
    out.print(table)
    for label, missing in dict.fromkeys((ask.label, ask.missing) for ask in made.asks if ask.missing):
        err.print(f"[yellow]{escape(label)}:[/] {escape(missing)}", soft_wrap=True)
    _tell_incomplete(made.incomplete)
    out.print(f"To do: {cost.rows_to_do:,} of {cost.rows:,} rows. {cost.sentence}", highlight=False, soft_wrap=True)


def _tell_incomplete(sentences: Sequence[str]) -> None:
    """Which data lacks pictures: its numbers are not those of the whole set."""
    for sentence in sentences:
        err.print(f"[yellow]incomplete:[/] {escape(sentence)}", highlight=False, soft_wrap=True)


@app.command()
def leaderboard(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="NAME or NAME?key=value: only these; any registered one works on any store.")] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, parquet, json, md, latex, robustbench or timm; with --published the first, csv, json or md.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of printing.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Published numbers beside the measured ones, where there are any.")] = False,
    references: Annotated[Path | None, typer.Option("--references", help="Published numbers of your own (CSV); implies --published.")] = None,
) -> None:  # fmt: skip
    """The leaderboard of a store, each number with its interval.

    The table is a summary; every other format but md and latex is tidy, one row per number.

    Example: robustvit leaderboard --suite imagenet-c --format csv -o board.csv
    """
    from robustvit import board as boards
    from robustvit.export import FORMATS, export
    from robustvit.spec import called

    if format != "table" and format not in FORMATS:
        from robustvit.errors import nearest

        choices = ["table", *FORMATS]
        raise UsageError(f"--format '{format}' is unknown.{nearest(format, choices)} It takes {', '.join(choices)}.")
    asked = None if metric is None else [called(text, "metric") for text in metric]
    if published or references is not None:
        _tell_published(boards.leaderboard(store, suite=suite, models=model, metrics=asked), references, format, output)
        return
    board = boards.leaderboard(store, suite=suite, models=model, metrics=asked)
    if format == "table" and output is None:
        _print_board(boards.summary(board), str(store))
    else:
        text = export(board, "md" if format == "table" else format, output)
        if output is None:
            sys.stdout.write(text)
        else:
            err.print(f"Wrote {output}", highlight=False, soft_wrap=True)
    _leave_if_failed(board)


def _tell_published(board: Any, own: Path | None, format: str, output: Path | None) -> None:
    """Published numbers beside measured ones."""
    from robustvit.reference_files import read_references
    from robustvit.references import beside, page
    from robustvit.tabular import check_format

    check_format(format)
    found = beside(board, None if own is None else read_references(own))
    if not len(found):
        err.print("No number here has a published one: models are known by timm's name with its tag, not by their labels.", soft_wrap=True)
    _tell_table(found, page(found), "published beside measured", format, output)
    _leave_if_failed(board)


def _tell_table(table: Any, page: Any, title: str, format: str, output: Path | None, sentence: str = "") -> None:
    """A table on the terminal, or in a format, or in a file."""
    from robustvit.tabular import save, written

    if format == "table" and output is None:
        if len(page):
            _print_frame(page, title)
        if sentence:
            out.print(escape(sentence), highlight=False, soft_wrap=True)
        return
    text = written(table, page, "md" if format == "table" else format, sentence)
    if output is None:
        sys.stdout.write(text)
    else:
        err.print(f"Wrote {save(text, output)}", highlight=False, soft_wrap=True)


@app.command()
def factors(
    store: StorePath = Path("results"),
    published: Annotated[bool, typer.Option("--published", help="The published models instead of a store.")] = False,
    suite: SuiteName = None,
    model: ModelNames = None,
    shift: Annotated[str | None, typer.Option("--shift", help="The score beside the clean accuracy: imagenet-a, 'pgd 4/255', mce_alexnet, … Default: imagenet-a, or the first there is.")] = None,
    fit: Annotated[str | None, typer.Option("--fit", help="effective, augreg or scaling; default none, the view itself.")] = None,
    line: Annotated[str, typer.Option("--line", help="For --fit effective, the models that it is measured from: own or published.")] = "own",
    factor: Annotated[list[str] | None, typer.Option("--factor", help="For --fit augreg; repeat for several. Default: pretraining and kind.")] = None,
    cost: Annotated[str, typer.Option("--cost", help="macs or parameters.")] = "macs",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the score against cost into this SVG file.")] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="table, csv, json or md.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of printing.")] = None,
) -> None:  # fmt: skip
    """How models came about, what they cost, how robust they are.

    One row per model: what its tag tells, parameters, MACs, scores. A * marks models that nothing beats at their cost. --fit effective: the
    accuracy on a shift beyond what the clean one lets expect; augreg: a regression on factors; scaling: a power law over cost.

    Example: robustvit factors --published --shift imagenet-a --fit effective
    """
    from robustvit import factor_answers
    from robustvit.board import leaderboard as board_of
    from robustvit.factors import factor_view
    from robustvit.tabular import check_choice, check_format, save

    check_format(format)
    check_choice("--fit", fit or "effective", factor_answers.FITS)
    check_choice("--line", line, ("own", "published"))
    check_choice("--cost", cost, ("macs", "parameters"))
    for option, given, goes in (("--factor", factor, fit == "augreg"), ("--line published", line == "published", fit == "effective")):
        if given and not goes:
            raise UsageError(f"{option} is for --fit {'augreg' if option == '--factor' else 'effective'}.")
    if published and (suite or model):
        raise UsageError("--published shows the published models; --suite and --model choose from a store.")
    view = factor_view() if published else factor_view(board_of(store, suite=suite, models=model))
    shift = shift or factor_answers.usual_shift(view)
    if plot is not None:
        from robustvit.pareto_plot import pareto_plot
        from robustvit.scatter import svg

        err.print(f"Wrote {save(svg(pareto_plot(view, shift, cost), alone=True), plot)}", highlight=False, soft_wrap=True)
    told = factor_answers.answer(view, fit, shift, cost, factor or None, factor_view() if line == "published" else None)
    title = f"{fit or 'factors'} · {'published' if published else store}"
    _tell_table(told.table, told.page, title, format, output, told.sentence)


def _leave_if_failed(board: Any) -> None:
    """Names the cells that have no answer, each once, and leaves with their exit code."""
    failed = board[(board["status"] == "failed") & (board["cell"] != "")].drop_duplicates("cell")
    for row in failed.itertuples():
        err.print(
            f"[red]failed:[/] {escape(f'{row.model} · {row.scenario} {row.severity}: {row.reason}')}", highlight=False, soft_wrap=True
        )
    _tell_partial_averages(board)
    if len(failed):
        raise typer.Exit(CELLS_FAILED)


def _tell_partial_averages(board: Any) -> None:
    """Why averages have no value, each reason once."""
    partial = board[(board["cell"] == "") & (board["status"] == "partial")]
    for (model, reason), rows in partial.groupby(["model", "reason"], sort=False):
        names = ", ".join(dict.fromkeys(rows["metric"]))
        err.print(f"[yellow]partial:[/] {escape(f'{model} · {names}: {reason}')}", highlight=False, soft_wrap=True)


@app.command()
def report(
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    model: ModelNames = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
) -> None:
    """One self-contained HTML page of a store; it needs no network.

    Example: robustvit report --store results -o report.html
    """
    from robustvit.report.page import write_report

    out.print(f"Report: {write_report(store, output, suite=suite, models=model)}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    model_a: Annotated[str, typer.Argument(help="A model's label in the store.")],
    model_b: Annotated[str, typer.Argument(help="Another one.")],
    store: StorePath = Path("results"),
    suite: SuiteName = None,
    flips: Annotated[bool, typer.Option("--flips", help="List the samples that one gets right and the other wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Paired tests of two models, cell by cell.

    McNemar's exact test on the samples both saw, corrected by Holm for the many comparisons.

    Example: robustvit compare demo mine --suite imagenet-c
    """
    from robustvit import comparison

    frame = comparison.flips(store, model_a, model_b, suite=suite) if flips else comparison.compare(store, model_a, model_b, suite=suite)
    _show(frame, f"{model_a} against {model_b}", as_json)


@app.command()
def diff(
    store_a: Annotated[Path, typer.Argument(help="A store.")], store_b: Annotated[Path, typer.Argument(help="Another one.")], as_json: AsJson = False
) -> None:  # fmt: skip
    """What moved between two stores, and whether by chance.

    Example: robustvit diff results-old results-new
    """
    from robustvit import comparison

    _show(comparison.diff(store_a, store_b), f"{store_a} → {store_b}", as_json)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="suites, models, data, corruptions, attacks, certificates, analyses, transforms, defenses or metrics.")],
    name: Annotated[str | None, typer.Argument(help="Show this one: docstring, parameters, source.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """What there is.

    Example: robustvit list corruptions fog
    """
    from robustvit import catalogue

    if name is None:
        rows = catalogue.index(kind)
        if as_json:
            print(json.dumps(rows))
            return
        table = Table(box=None, pad_edge=False)
        for heading in rows[0] if rows else ("name",):
            table.add_column(heading, no_wrap=heading == "name")
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row.values()))
        out.print(table if rows else f"no {kind} are registered.")
        return
    about = catalogue.about(kind, name)
    print(json.dumps(about, default=str)) if as_json else _print_about(about)


@app.command()
def check(files: Annotated[list[Path] | None, typer.Argument(help="Suite files; default those that ship with robustvit.")] = None) -> None:
    """Validate suite files: the line, the mistake, the nearest name.

    Example: robustvit check suites/*.yaml
    """
    from robustvit.suite import read_suite, suite_files

    pages = {str(path): path for path in files} if files else {f"suites/{name}.yaml": path for name, path in suite_files().items()}
    wrong = 0
    for shown, path in pages.items():
        try:
            suite = read_suite(path, shown)
        except RobustvitError as error:
            wrong += 1
            err.print(f"[red]✗[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        else:
            data = f" on {len(suite.data)} data sets" if len(suite.data) > 1 else ""
            told = f"{_count(suite.scenarios, 'scenario')}{data}, {_count(suite.metrics, 'metric')}"
            out.print(f"[green]✓[/] {shown}: {told}", highlight=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(UsageError.exit_code)


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="attack, corruption, metric or suite.")],
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits, underscores.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where to write it.")] = Path(),
) -> None:
    """A working scaffold with its contract test.

    Example: robustvit new attack blur_attack
    """
    from robustvit import scaffold

    made = scaffold.write(kind, name, folder)
    for path in made.files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)
    out.print(made.next_step, highlight=False, soft_wrap=True)


@app.command("data")
def data_(
    name: Annotated[str | None, typer.Argument(help="Show this one in full, all its variants; NAME?key=value shows some.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every picture of NAME: what is damaged, what is there twice.")] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Look here, too.")] = None,
    clear_cache: Annotated[bool, typer.Option("--clear-cache", help="Delete the decoded pictures.")] = False,
    as_json: AsJson = False,
) -> None:
    """The known data sets: found or not, whole or not, and how to get them.

    With --verify, pictures that cannot be read, and equal ones under several labels, end in exit code 1.

    Example: robustvit data imagenet-a --data-dir /data/imagenet-a --verify
    """
    from robustvit import pictures, registry, sources

    if clear_cache:
        out.print(f"Freed {pictures.clear() / 2**20:.1f} MiB of decoded pictures.", highlight=False)
        return
    if name is not None:
        _show_data(name, data_dir, verify, as_json)
        return
    if verify:
        raise UsageError("--verify reads every picture of one data set; name it: robustvit data imagenet-a --verify.")
    rows = [sources.status(one, data_dir) for one in registry.entries("data")]
    if as_json:
        print(json.dumps(rows, default=str))
        return
    for row in rows:
        mark = "[green]✓[/]" if row["found"] else "[yellow]·[/]"
        out.print(f"{mark} [bold]{row['name']}[/]: {escape(str(row['told']))}", highlight=False, soft_wrap=True)
    out.print(f"Decoded pictures take {pictures.usage() / 2**20:.1f} MiB; --clear-cache deletes them.", highlight=False)


def _show_data(name: str, data_dir: Path | None, verify: bool, as_json: bool) -> None:
    """One data set in full; with `verify` every picture of it."""
    from robustvit import sources

    about = sources.describe(name, data_dir)
    verdicts = _verdicts(name, data_dir, quiet=as_json) if verify else {}
    for one in about["variants"]:
        verdict = verdicts.get(sources.called(one["params"]))
        one |= {} if verdict is None else {"verdict": {**asdict(verdict), "right": verdict.right}}
    print(json.dumps(about, default=str)) if as_json else _print_data(about)
    if verify and not (about["found"] and all(verdict.right for verdict in verdicts.values())):
        raise typer.Exit(RobustvitError.exit_code)


def _verdicts(name: str, data_dir: Path | None, *, quiet: bool) -> dict[str, Verdict]:
    """What every variant of a data set that is at hand is like; one whose pictures were among those before is not read again."""
    from robustvit import sources
    from robustvit.verification import covers, verify

    found: dict[str, Verdict] = {}
    last: Data | None = None
    with _showing(quiet) as progress:
        for variant in sources.variants(name, data_dir):
            if variant.data is not None and not covers(last, variant.data):
                last = variant.data
                found[sources.called(variant.params)] = verify(last, progress)
    return found


def _print_data(about: dict[str, Any]) -> None:
    from robustvit.errors import few
    from robustvit.sources import called

    out.print(f"[bold]{escape(about['name'])}[/]\n{escape(about['doc'].strip())}\n", highlight=False)
    looked = ("found in", about["where"]) if about["found"] else ("looked in", " and ".join(about["looked"]))
    for key, value in (looked, *((key, about[key]) for key in ("source", "url", "licence", "get"))):
        if value:
            out.print(f"[bold]{key}[/] {escape(value)}", highlight=False, soft_wrap=True)
    for one in about["variants"]:
        mark, title = "[green]✓[/]" if one["found"] else "[yellow]·[/]", called(one["params"])
        out.print(f"{mark} {escape(f'{title}: ' if title else '')}{escape(one['told'])}", highlight=False, soft_wrap=True)
        if one.get("absent"):
            out.print(f"  no picture of {len(one['absent']):,} classes: {escape(few(one['absent']))}", highlight=False, soft_wrap=True)
        if one.get("facts"):
            out.print(f"  facts of each sample: {', '.join(one['facts'])}", highlight=False, soft_wrap=True)
        if "verdict" in one:
            _print_verdict(one["verdict"])


def _print_verdict(verdict: dict[str, Any]) -> None:
    from robustvit.errors import few

    told = {
        "unreadable": "cannot be read: " + "; ".join(verdict["unreadable"][:5]),
        "clashing": "groups of equal pictures under different labels: " + few([" = ".join(ids) for ids in verdict["clashing"]]),
        "same": "groups of equal pictures under one label: " + few([" = ".join(ids) for ids in verdict["same"]]),
    }
    for key, words in told.items():
        if verdict[key]:
            mark = "[yellow]told:[/]" if key == "same" else "[red]wrong:[/]"
            out.print(f"  {mark} {len(verdict[key]):,} {escape(words)}", highlight=False, soft_wrap=True)
    if verdict["right"]:
        out.print(f"  [green]verified:[/] all {verdict['images']:,} pictures can be read", highlight=False, soft_wrap=True)


@app.command()
def corrupt(
    source: Annotated[Path, typer.Argument(help="An image, a folder of images, or a tree of class folders.")],
    target: Annotated[Path, typer.Argument(help="Where to write CORRUPTION/SEVERITY/…; what is finished there is kept.")],
    corruption: Annotated[list[str] | None, typer.Option("--corruption", "-c", help="NAME or NAME?key=value; repeat for several. Default: the fifteen of ImageNet-C.")] = None,
    severity: Annotated[list[int] | None, typer.Option("--severity", help="1 to 5; repeat for several. Default: all five.")] = None,
    resize: Annotated[int | None, typer.Option("--resize", help="Short side before the crop; needs --size. Default: as it is.")] = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the square cut from the middle. Default: pictures as they are.")] = None,
    imagenet: Annotated[bool, typer.Option("--imagenet", help="As the released files: --resize 256 --size 224, bilinear.")] = False,
    form: Annotated[str, typer.Option("--format", help="png, jpeg (quality 95) or jpeg85 (as the released files).")] = "png",
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 0,
    workers: Annotated[int, typer.Option("--workers", "-j", help="Processes that make pictures; 0 makes them in this one.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:  # fmt: skip
    """Write corrupted copies of images, one or a whole tree like that of ImageNet-C. Stopped, it goes on where it was.

    Example: robustvit corrupt photos corrupted --corruption fog --severity 3
    """
    from robustvit.generate import IMAGENET, generate
    from robustvit.view import View

    if (imagenet and (size or resize)) or (resize and not size):
        raise UsageError("--resize needs --size, and --imagenet is both: give --imagenet, or --size with or without --resize.")
    view = IMAGENET if imagenet else View((size, size), resize, "center", "bilinear") if size is not None else None
    with _showing(quiet) as progress:
        made = generate(
            source, target, corruption, severity, view=view, form=form, seed=seed, workers=workers, progress=progress
        )  # fmt: skip
    out.print(
        f"Wrote {made.written:,} picture{'' if made.written == 1 else 's'} to {target}; {made.kept:,} were there.",
        highlight=False,
        soft_wrap=True,
    )
    for reason in made.unreadable:
        err.print(f"[red]unreadable:[/] {escape(reason)}", highlight=False, soft_wrap=True)
    if made.unreadable:
        raise typer.Exit(RobustvitError.exit_code)


@app.command()
def train(
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write, NAME.safetensors.")],
    model: Annotated[str, typer.Option("--model", "-m", help="An address with fresh weights, or a checkpoint to go on from.")] = _DEMO,
    data: Annotated[str, typer.Option("--data", "-d", help="Its training split is learned, its usual split judged.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the data's files are.")] = None,
    defense: Annotated[list[str] | None, typer.Option("--defense", help="NAME or NAME?key=value; repeat to combine. Default: plain.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Times over the training split.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Samples a step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    warmup: Annotated[float | None, typer.Option("--warmup", help="Share of the steps in which the rate rises.")] = None,
    rotation: Annotated[float | None, typer.Option("--rotation", help="The most a picture is turned, in degrees.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="The most a picture is resized, as a share.")] = None,
    shift: Annotated[float | None, typer.Option("--shift", help="The most a picture is moved, as a share of its side.")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option("--device")] = "cpu",
    stored: Annotated[str, typer.Option("--stored", help="Type of the weights in the file: float16 or float32.")] = "float16",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:  # fmt: skip
    """Train a model, with or without a defense.

    The loop that made the demo's weights.

    Example: robustvit train --data digits --defense plain --epochs 40 --out mine.safetensors
    """
    from dataclasses import replace

    from robustvit import environment
    from robustvit.recipe import RECIPE
    from robustvit.training_run import train_from_spec

    given: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "rotation": rotation,
        "scale": scale, "shift": shift,
    }  # fmt: skip
    recipe = replace(RECIPE, **{name: value for name, value in given.items() if value is not None})
    if stored not in ("float16", "float32"):
        raise UsageError(f"--stored is {stored}; it takes float16 or float32.")
    environment.determine()

    def tell(now: Any) -> None:
        if not quiet:
            err.print(f"epoch {now.epoch}/{now.epochs}  loss {now.loss:.4f}  {now.seconds:.0f} s", highlight=False)

    try:
        done = train_from_spec(
            model, data, out=out_file, defenses=tuple(defense or ["plain"]), recipe=recipe, seed=seed,
            device=environment.device(device), stored="float16" if stored == "float16" else "float32", data_dir=data_dir, progress=tell,
        )  # fmt: skip
    except KeyboardInterrupt as interrupted:
        err.print(f"\nInterrupted. {interrupted}", highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    told = "" if done.accuracy is None else f" Accuracy on the held-out split: {done.accuracy:.2%}."
    out.print(f"Wrote {out_file} after {done.seconds:.0f} s.{told}", highlight=False, soft_wrap=True)


def _print_about(about: dict[str, Any]) -> None:
    out.print(f"[bold]{escape(str(about.pop('kind')))} {escape(str(about.pop('name')))}[/]\n", highlight=False)
    out.print(escape(str(about.pop("doc", "") or "").strip()) + "\n", highlight=False)
    for key, value in about.items():
        if not value:
            continue
        if isinstance(value, dict):
            out.print(f"[bold]{key}[/]", highlight=False)
            for inner, told in value.items():
                shown = (
                    f"{told['takes']}" + ("" if told["required"] else f"; default {told['default']}") if isinstance(told, dict) else told
                )
                out.print(f"  {escape(inner)}: {escape(str(shown))}", highlight=False, soft_wrap=True)
        elif isinstance(value, list):
            out.print(f"[bold]{key}[/]\n  " + "\n  ".join(escape(str(item)) for item in value), highlight=False, soft_wrap=True)
        else:
            gap = "\n" if "\n" in str(value).strip() else " "
            out.print(f"[bold]{key}[/]{gap}{escape(str(value).strip())}", highlight=False, soft_wrap=True)


def _show(frame: Any, title: str, as_json: bool) -> None:
    """JSON with everything, or a table of what a terminal has room for: what differs from row to row, the numbers, the verdict."""
    if as_json:
        print(frame.to_json(orient="records"))
        return
    several = [name for name in _TOLD_IF_SEVERAL if name in frame and frame[name].nunique(dropna=False) > 1]
    shown = [name for name in frame.columns if name in _TOLD or name in several]
    _print_frame(frame[shown], title)
    if "verdict" in frame:
        verdicts = ", ".join(f"{count} {name}" for name, count in frame["verdict"].value_counts().items())
        out.print(f"{len(frame)} cells: {verdicts}. --json has every column.", highlight=False, soft_wrap=True)


def _print_board(summary: Any, title: str) -> None:
    """One line per model where that fits the terminal; else one line per number and a column per model, in groups that fit."""
    texts = [[str(value) for value in row] for row in summary.itertuples(index=False)]
    lengths = [max(map(len, column)) for column in zip(map(str, summary.columns), *texts, strict=True)]
    if sum(lengths) + 3 * len(lengths) < out.width:
        _print_frame(summary, title)
        return
    fitting = max(1, (out.width - 30) // (max(map(len, (text for row in texts for text in row))) + 3))
    for start in range(0, len(texts), fitting):
        table = Table(title=title, title_justify="left", show_header=False)
        for _ in range(1 + len(texts[start : start + fitting])):
            table.add_column(overflow="fold")
        for place, name in enumerate(summary.columns):
            values = [escape(row[place]) for row in texts[start : start + fitting]]
            table.add_row(escape(str(name).replace("_", " ")), *values, end_section=name == "n", style="bold" if place == 0 else None)
        out.print(table)


def _print_frame(frame: Any, title: str) -> None:
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        numeric = frame[name].dtype.kind in "fiu"
        table.add_column(escape(str(name).replace("_", " ")), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(_shown(value)) for value in row))
    out.print(table)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}" if 0 < abs(value) < 1 else f"{value:.1f}"
    return "" if value is None else str(value)


@contextmanager
def _showing(quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on a terminal, a line now and then elsewhere, nothing when quiet."""
    if quiet:
        yield None
    elif err.is_terminal:
        with _bar() as progress:
            yield progress
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:40.40}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=err, transient=True) as bar:
        task = bar.add_task("loading")
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=escape(what))


class _Lines:
    """Progress for logs: a line every ten seconds."""

    def __init__(self) -> None:
        self.last = time.monotonic() - 8.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now - self.last >= 10.0:
            self.last = now
            err.print(f"{done:,}/{total:,} rows · {what}", highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more.")] = False,
) -> None:
    if version:
        from robustvit import __version__

        out.print(__version__, highlight=False)
        raise typer.Exit()
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(message)s")


def main() -> None:
    """Runs the command line; a user's mistake is one message and an exit code, never a traceback."""
    try:
        app()
    except RobustvitError as error:
        err.print(f"[red]robustvit:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
