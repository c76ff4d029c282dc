"""Regenerates the committed boards from their Records, without torch: `nox -s reports`.

    python reports/regenerate.py [--check] [--only BOARD/SUITE …]

`boards.yaml` says which suites of which store are written where: `SUITE.csv` (tidy), `SUITE.md` (compact), `SUITE.html` (the report), a
figure of each kind of curve, and `SUITE.headlines.csv`, its summary in tidy form. `entries/` adds what others submitted
(`robustvit submit`). Nothing is computed: `reports/records.py` does that. `--check` writes nothing, and fails where a byte differs from
what is committed, or where a committed file comes of no store. The screenshot of the demo's page needs Chromium, and is left out of checks.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from board_figures import figures
from board_plan import HERE, BoardPlan, chosen_suites, read_plan

from robustvit.errors import RobustvitError
from robustvit.records.store import Store
from robustvit.report.page import render, write_report
from robustvit.report.suite_results import results_by_suite
from robustvit.results.export import export
from robustvit.results.leaderboard import Leaderboard, build_leaderboard, read_csv
from robustvit.results.submission.entry import headlines, read_submission
from robustvit.results.submission.recomputed import confirm
from robustvit.results.table_formats import csv_text

ENDINGS = ("csv", "md", "html", "svg")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1.5", "--window-size=1280,1500",
)  # fmt: skip


def screenshot(page: Path, target: Path) -> None:
    """Writes a screenshot of the page with headless Chromium, where there is one."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        print("no Chromium: the screenshot is not renewed", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as profile:
        words = [chromium, *FLAGS, f"--user-data-dir={profile}", f"--screenshot={target}", page.as_uri()]
        subprocess.run(words, check=True, capture_output=True, timeout=120)


def boards(plan: BoardPlan, folder: Path, suites: Sequence[str] = ()) -> list[Path]:
    """Writes the boards of a plan into a folder, and returns their files; suites are made side by side. suites: these alone."""
    chosen = [suite for suite in computed(plan) if not suites or suite in suites]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        made = list(pool.map(suite_board, [plan] * len(chosen), chosen, [folder] * len(chosen)))
    page = [write_report(Store(plan.store), folder / plan.page)] if plan.page and not suites else []
    return [*(path for one in made for path in one), *page]


def computed(plan: BoardPlan) -> list[str]:
    """The suites of a plan that its store has; tells those that `nox -s records` has not computed yet."""
    there = {manifest.suite.name for manifest in Store(plan.store).manifests()}
    if lacking := [suite for suite in plan.suites if suite not in there]:
        print(f"{plan.name}: not computed yet, and left out: {', '.join(lacking)}", file=sys.stderr)
    return [suite for suite in plan.suites if suite in there]


def suite_board(plan: BoardPlan, suite: str, folder: Path) -> list[Path]:
    """Writes the board of one suite into a folder; returns its files."""
    store = Store(plan.store)
    board = build_leaderboard(store, suite=suite)
    found = [] if plan.page else _pages(board, store, folder / suite)
    board = with_entries(board, suite, plan.entries)
    for form in ("csv", "md"):
        found.append(folder / f"{suite}.{form}")
        export(board, form, found[-1])
    if not plan.page:
        found.append(folder / f"{suite}.headlines.csv")
        found[-1].write_text(csv_text(pd.DataFrame(headlines(read_csv(folder / f"{suite}.csv"))), "%.10g"), encoding="utf-8", newline="")
    return found


def _pages(board: Leaderboard, store: Store, stem: Path) -> list[Path]:
    """Writes the report and the figures of one suite."""
    written = {stem.with_name(f"{stem.name}.html"): render(board, store)}
    for results in results_by_suite(board.rows):
        written |= {stem.with_name(f"{stem.name}-{kind}.svg"): drawn for kind, drawn in figures(results).items()}
    for path, text in written.items():
        path.write_text(text, encoding="utf-8", newline="")
    return list(written)


def with_entries(board: Leaderboard, suite: str, folder: Path | None) -> Leaderboard:
    """The leaderboard with the rows of the entries for a suite in a folder, each checked, and made again where its Records lie beside it.

    An entry is FOLDER/NAME/entry.json and board.csv, its store FOLDER/NAME/store; its models are marked with NAME. Raises RobustvitError
    for an entry that is not what it says.
    """
    rows = [board.rows]
    for place in sorted(path.parent for path in folder.glob("*/entry.json")) if folder is not None else ():
        entry = read_submission(place)
        if entry.facts["suite"]["name"] != suite:
            continue
        if (place / "store").is_dir():
            confirm(entry, place / "store")
        received = entry.rows()
        rows.append(received.assign(model=received["model"] + f" (entry {place.name})"))
    return replace(board, rows=pd.concat(rows, ignore_index=True)) if len(rows) > 1 else board


def different(plan: BoardPlan, suites: Sequence[str] = ()) -> list[str]:
    """Where the committed boards are not those of the Records: file, and the first line that differs. suites: these alone."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        names = set()
        for path in boards(plan, Path(folder), suites):
            names.add(path.name)
            there = plan.folder / path.name
            old, new = there.read_bytes() if there.is_file() else b"", path.read_bytes()
            if old != new:
                pairs = itertools.zip_longest(old.splitlines(), new.splitlines())
                line = next((number for number, (a, b) in enumerate(pairs, start=1) if a != b), "end")
                found.append(f"{there.relative_to(HERE)}, line {line}")
        found += [f"{path.relative_to(HERE)}, which no store gives" for path in (() if suites else stale(plan, names))]
    return found


def stale(plan: BoardPlan, names: set[str]) -> list[Path]:
    """Files of boards that are no longer made; a folder that others share has none."""
    if plan.page:
        return []
    return sorted(path for ending in ENDINGS for path in plan.folder.glob(f"*.{ending}") if path.name not in names)


def main() -> None:
    """Writes boards, pages, figures and screenshot; or checks those that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a committed board differs")
    parser.add_argument("--only", nargs="+", default=[], metavar="BOARD/SUITE", help="these alone; patterns such as 'zoo/imagenet-*'")
    given = parser.parse_args()
    chosen = chosen_suites(list(read_plan().values()), given.only)
    if given.check:
        found = [line for plan, suites in chosen for line in different(plan, suites)]
        if found:
            sys.exit(f"reports/ is not what its records give: {'; '.join(found)}. Make it anew: nox -s reports.")
        print(f"reports/: the boards of {', '.join(plan.name for plan, _ in chosen)} are those of their records, byte for byte")
        return
    for plan, suites in chosen:
        plan.folder.mkdir(exist_ok=True)
        names = {path.name for path in boards(plan, plan.folder, suites)}
        for path in () if suites else stale(plan, names):
            path.unlink()
        if plan.page and not suites:
            screenshot(plan.folder / plan.page, (plan.folder / plan.page).with_suffix(".png"))


if __name__ == "__main__":
    try:
        main()
    except RobustvitError as error:
        sys.exit(f"reports/regenerate.py: {error}")
