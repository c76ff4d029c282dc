"""Every table of a store through the command line, into files: `python tests/boards.py STORE FOLDER MODEL OTHER [--block MODULES]`.

An environment without torch (requirements/board.txt) and the whole one are to write the same files. Each command writes what it printed,
with its exit code, into NAME.txt, and files of its own beside it. --block: modules that cannot be imported, as if they were not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

PER = ("corruption", "severity", "attack", "data")
COMPUTING = {  # what needs torch
    "run": ["run", "--limit", "2", "--store", "new"],
    "plan": ["plan", "--store", "new"],
    "train": ["train", "--data", "digits", "--out", "new.safetensors"],
    "corrupt": ["corrupt", "nowhere", "new"],
    "data": ["data"],
    "list_adapter": ["list", "attacks", "torchattacks/PGD"],
}


class Blocked:
    """A finder that finds no module of some packages, first of all finders."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None


FILES = ("csv", "parquet", "json", "md", "latex", "timm")  # formats of one file that need nothing more


def tables(store: str, model: str, other: str) -> dict[str, list[str]]:
    """The commands that need no torch, by the name of their file."""
    from robustvit.spec.plugin import PLURALS

    board = ["leaderboard", "--store", store]
    return {
        "leaderboard": board,
        **{f"leaderboard_{form}": [*board, "--suite", "quick", "-f", form, "-o", f"leaderboard.{form}"] for form in FILES},
        **{f"per_{per}": [*board, "--suite", "quick", "--per", per] for per in PER},
        **{f"per_{per}_latex": [*board, "--suite", "quick", "--per", per, "-f", "latex"] for per in PER},
        "ranks": [*board, "--ranks"],
        "ranks_csv": [*board, "--ranks", "-f", "csv"],
        "overview": ["figure", "overview", "--store", store, "--model", model, "--against", other, "-o", "overview.svg"],
        "metric": [*board, "--suite", "quick", "--metric", "brier", "--metric", "ece"],
        "published": [*board, "--suite", "quick", "--published"],
        "published_csv": [*board, "--suite", "quick", "--published", "-f", "csv"],
        "report": ["report", "--store", store, "-o", "report.html"],
        "card": ["card", store, "--model", model, "--suite", "quick"],
        "submit": ["submit", store, "--model", model, "--suite", "quick", "--json"],
        "compare": ["compare", model, other, "--store", store],
        "compare_json": ["compare", model, other, "--store", store, "--json"],
        "flips": ["compare", model, other, "--store", store, "--flips"],
        "diff": ["diff", store, store],
        "status": ["status", store],
        "transfer": ["transfer", "--store", store, "-f", "csv"],
        "factors": ["factors", "--store", store, "-f", "csv"],
        "factors_published": ["factors", "--published", "--fit", "effective", "--plot", "factors.svg", "-f", "csv"],
        "check": ["check"],
        "list": ["list"],
        **{f"list_{plural}": ["list", plural, "--json"] for plural in (*PLURALS.values(), "suites")},
        "list_pgd": ["list", "attacks", "pgd"],
    }


def called(words: Sequence[str]) -> tuple[int, str, str]:
    """The exit code of a command, and what it printed to the standard output and error."""
    from robustvit.cli.app import main

    sys.argv = ["robustvit", *words]
    printed, told, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return code, printed.getvalue(), told.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("other")
    parser.add_argument("--block", nargs="*", default=[])
    parser.add_argument("--computing", action="store_true", help="the commands that need torch, not those that do without")
    given = parser.parse_args()
    sys.meta_path.insert(0, Blocked(given.block))  # type: ignore[arg-type]
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    store = str(given.store.absolute())
    given.folder.mkdir(parents=True)
    os.chdir(given.folder)
    for name, words in (COMPUTING if given.computing else tables(store, given.model, given.other)).items():
        code, printed, told = called(words)
        Path(f"{name}.txt").write_text(f"exit code {code}\n{printed}\n-- standard error\n{told}", encoding="utf-8")
    if given.block:
        loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(given.block))
        sys.exit(f"these were imported: {loaded}" if loaded else 0)


if __name__ == "__main__":
    main()
