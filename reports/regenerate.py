"""Regenerates the committed leaderboards: `nox -s reports`.

`records/` is a store: what it holds is not computed again, so a fresh clone needs no GPU and about a minute. Delete it to start from
nothing. The leaderboards follow from it: `NAME.csv` (tidy), `NAME.md` (compact), `demo.html` (the report) and its screenshot `demo.png`,
which needs Chromium. `--check` computes nothing and writes nothing here: it makes leaderboards and page of the records alone, without
torch, and fails where a byte of them differs from what is committed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import robustvit as rv
from robustvit.results.export import export
from robustvit.results.leaderboard import build_leaderboard

HERE = Path(__file__).resolve().parent
SUITES = ("quick", "imagenet-c")
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


def boards(folder: Path) -> list[Path]:
    """Writes the leaderboards and the report of the records into a folder, and returns their files."""
    store, written = HERE / "records", [folder / "demo.html"]
    for suite in SUITES:
        board = build_leaderboard(store, suite=suite)
        for form in ("csv", "md"):
            written.append(folder / f"{suite}.{form}")
            export(board, form, written[-1])
    rv.write_report(store, folder / "demo.html")
    return written


def different() -> list[str]:
    """Where the committed boards are not those of the records: file, and the first line that differs."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for made in boards(Path(folder)):
            old, new = (HERE / made.name).read_bytes() if (HERE / made.name).is_file() else b"", made.read_bytes()
            if old != new:
                pairs = itertools.zip_longest(old.splitlines(), new.splitlines())
                line = next((number for number, (a, b) in enumerate(pairs, start=1) if a != b), "end")
                found.append(f"{made.name}, line {line}")
    return found


def main() -> None:
    """Computes what the records lack of the suites, then writes leaderboards, page and screenshot; or checks those that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compute nothing, write nothing; fail where a committed board differs")
    if parser.parse_args().check:
        found = different()
        if found:
            sys.exit(f"reports/ is not what its records give: {'; '.join(found)}. Make it anew: nox -s reports.")
        print(f"reports/: the boards of {', '.join(SUITES)} and demo.html are those of the records, byte for byte")
        return
    for suite in SUITES:
        command = f"robustvit run --model demo --suite {suite} --data digits"
        done = rv.run(suite, models=["demo"], data="digits", store=HERE / "records", command=command)
        print(f"{suite}: {done.computed} of {done.rows} rows computed")
    boards(HERE)
    screenshot(HERE / "demo.html", HERE / "demo.png")


if __name__ == "__main__":
    main()
