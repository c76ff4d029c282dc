"""list, check and data: what is available, and whether it is valid and complete."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from robustvit.cli.data_printing import counted, print_described
from robustvit.cli.exit_codes import AllowCode, AsJson, JsonFile
from robustvit.cli.printing import err, escape, out, print_json
from robustvit.cli.progress import progress_shown
from robustvit.errors import RobustvitError, UsageError

if TYPE_CHECKING:
    from robustvit.cli.commands.data_check import ImageCheck
    from robustvit.primitives.batch import Data


def list_(
    kind: Annotated[str | None, typer.Argument(help="suites, models, data, corruptions, attacks, certificates, analyses, transforms, "
        "defenses or metrics; without one, how many of each.")] = None,
    name: Annotated[str | None, typer.Argument(help="Show this one: docstring, parameters, source; or all with this word in them.")] = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:  # fmt: skip
    """List what is available, describe one thing, or search.

    Example: robustvit list corruptions fog
    """
    from robustvit.cli.commands import catalogue

    searched = kind is not None and name is not None and bool(name.strip()) and not catalogue.is_known(kind, name)
    found = catalogue.search(str(kind), str(name)) if searched else []
    if kind is None or name is None or found:
        rows = found or (catalogue.kinds() if kind is None else catalogue.index(kind))
        if as_json or output is not None:
            print_json(rows, output)
            return
        table = Table(box=None, pad_edge=False)
        for heading in rows[0] if rows else ("name",):
            table.add_column(heading, no_wrap=heading == "name")
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row.values()))
        out.print(table if rows else f"no {kind} are registered.")
        if kind is None:
            out.print("robustvit list KIND names all, list KIND NAME describes one, list KIND WORD searches.", highlight=False)
        return
    about = catalogue.about(kind, name)
    if as_json or output is not None:
        print_json(about, output)
    else:
        _print_about(about)


def _print_about(about: dict[str, Any]) -> None:
    out.print(f"[bold]{escape(str(about.pop('kind')))} {escape(str(about.pop('name')))}[/]\n", highlight=False)
    out.print(escape(str(about.pop("doc", "") or "").strip()) + "\n", highlight=False)
    for key, value in about.items():
        if not value:
            continue
        if isinstance(value, dict):
            out.print(f"[bold]{key}[/]", highlight=False)
            for inner, text in value.items():
                shown = text
                if isinstance(text, dict):
                    shown = text["takes"] + ("" if text["required"] else f"; default {text['default']}")
                out.print(f"  {escape(inner)}: {escape(str(shown))}", highlight=False, soft_wrap=True)
        elif isinstance(value, list):
            out.print(f"[bold]{key}[/]\n  " + "\n  ".join(escape(str(item)) for item in value), highlight=False, soft_wrap=True)
        else:
            gap = "\n" if "\n" in str(value).strip() else " "
            out.print(f"[bold]{key}[/]{gap}{escape(str(value).strip())}", highlight=False, soft_wrap=True)


def check(
    suites: Annotated[list[str] | None, typer.Argument(help="Suites by name or file, as for run; default: those of robustvit.")] = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Validate suites; a mistake is reported with its line and the nearest valid name.

    Example: robustvit check suites/*.yaml
    """
    from robustvit.spec.suite_file import load_suite, suite_files

    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(suites or suite_files()):
        try:
            suite = load_suite(name, allow_code=allow_code)
        except RobustvitError as error:
            found.append({"suite": str(name), "valid": False, "reason": str(error)})
        else:
            counts = {one: len(getattr(suite, one)) for one in ("scenarios", "data", "metrics")}
            found.append({"suite": suite.where.rpartition(":")[0], "valid": True, **counts})
    if as_json or output is not None:
        print_json(found, output)
    for one in () if as_json or output is not None else found:
        if one["valid"]:
            data = f" on {one['data']} data sets" if one["data"] > 1 else ""
            text = f"{one['suite']}: {counted(one['scenarios'], 'scenario')}{data}, {counted(one['metrics'], 'metric')}"
            out.print(f"[green]✓[/] {escape(text)}", highlight=False, soft_wrap=True)
        else:
            err.print(f"[red]✗[/] {escape(one['reason'])}", highlight=False, soft_wrap=True)
    if not all(one["valid"] for one in found):
        raise typer.Exit(UsageError.exit_code)


def data_(
    name: Annotated[str | None, typer.Argument(help="Describe this one and all its variants; NAME?key=value describes some.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every image of NAME: finds damaged and duplicate ones.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Search this folder, and first the folder in it of the data's name; not the usual places."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="With --verify: compare the images with those that this store's rows were computed on.")
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="Fetch NAME where its authors let it be fetched: into --data-dir, $ROBUSTVIT_DATA or ./data. "
            "$ROBUSTVIT_MIRROR is the address of a mirror, which has the files under HOST/PATH.",
        ),
    ] = False,
    clear_cache: Annotated[bool, typer.Option("--clear-cache", help="Delete the decoded images.")] = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """List the known data sets: found or not, complete or not, and how to get them.

    Exit code 1 where NAME was found but cannot be opened, where several folders may be it, or where it is not in --data-dir; not where it
    is only absent from its usual places.
    With --verify also where images cannot be read, or equal ones have different labels.

    Example: robustvit data imagenet-a --data-dir /data/imagenet-a --verify
    """
    from robustvit.cli.commands import data_status
    from robustvit.cli.downloading import download_named
    from robustvit.evaluation.images import cache_folder
    from robustvit.spec import registry

    if clear_cache and (name is not None or verify or download or data_dir is not None or store is not None):
        raise UsageError("--clear-cache deletes the decoded images of every data set and does nothing else; give it alone.")
    if store is not None and not verify:
        raise UsageError("--store is for --verify: it compares the images of NAME with those that the rows of a store were computed on.")
    if clear_cache:
        out.print(f"Freed {cache_folder.clear() / 2**20:.1f} MiB of decoded images.", highlight=False)
        return
    if download and name is None:
        raise UsageError("--download fetches one data set; name it: robustvit data imagenette --download.")
    if download and name is not None:
        download_named(name, data_dir, quiet=as_json)
        if not (verify or as_json):
            return
    if name is not None:
        _show_data(name, data_dir, verify, as_json, store, output)
        return
    if verify:
        raise UsageError("--verify reads every image of one data set; name it: robustvit data imagenet-a --verify.")
    rows = [data_status.status(one, data_dir) for one in registry.entries("data")]
    if as_json or output is not None:
        print_json(rows, output)
        return
    for row in rows:
        mark = "[green]✓[/]" if row["found"] else "[yellow]·[/]"
        out.print(f"{mark} [bold]{row['name']}[/]: {escape(str(row['told']))}", highlight=False, soft_wrap=True)
    out.print(f"Decoded images take {cache_folder.usage() / 2**20:.1f} MiB; --clear-cache deletes them.", highlight=False)


def _show_data(name: str, data_dir: Path | None, verify: bool, as_json: bool, store: Path | None, output: Path | None) -> None:
    """Prints one data set with its variants; with `verify` what reading every image of it found."""
    from robustvit.cli.commands import data_status

    about = data_status.describe(name, data_dir)
    verdicts = _verdicts(name, data_dir, store, quiet=as_json) if verify else {}
    for one in about["variants"]:
        verdict = verdicts.get(data_status.variant_name(one["params"]))
        one |= {} if verdict is None else {"verdict": {**asdict(verdict), "right": verdict.right}}
    if as_json or output is not None:
        print_json(about, output)
    else:
        print_described(about)
    somewhere = about["where"] is not None or about["ambiguous"]  # absent from its usual places is no error
    wrong = about["variants"] and somewhere and not about["found"]
    if wrong or (verify and not (about["found"] and all(verdict.right for verdict in verdicts.values()))):
        raise typer.Exit(RobustvitError.exit_code)


def _verdicts(name: str, data_dir: Path | None, store: Path | None, *, quiet: bool) -> dict[str, ImageCheck]:
    """What reading the images of each variant found, by variant; one whose images were among those of the last is not read again."""
    from robustvit.cli.commands import data_status
    from robustvit.cli.commands.data_check import covers, verify
    from robustvit.records.sample_digests import SampleDigests
    from robustvit.records.store import Store

    found: dict[str, ImageCheck] = {}
    last: Data | None = None
    with progress_shown(quiet) as progress:
        for variant in data_status.variants(name, data_dir):
            if variant.data is not None and not covers(last, variant.data):
                last = variant.data
                known = {} if store is None else SampleDigests(Store(store).path, last.fingerprint, last.name).all()
                found[data_status.variant_name(variant.params)] = verify(last, progress, known)
    return found
