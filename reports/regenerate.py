"""Regenerates the committed leaderboards: `nox -s reports`.

`records/` is a store: what it holds is not computed again, so a fresh clone needs no GPU and about a minute. Delete it to start from
nothing. The leaderboards follow from it: `NAME.csv` (tidy), `NAME.md` (compact), `demo.html` (the report) and its screenshot `demo.png`,
which needs Chromium.
"""

from __future__ import annotations

import argparse
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


def main() -> None:
    """Computes what the records lack of the suites, then writes leaderboards, page and screenshot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    store = HERE / "records"
    for suite in SUITES:
        command = f"robustvit run --model demo --suite {suite} --data digits"
        done = rv.run(suite, models=["demo"], data="digits", store=store, command=command)
        print(f"{suite}: {done.computed} of {done.rows} rows computed")
        board = build_leaderboard(store, suite=suite)
        export(board, "csv", HERE / f"{suite}.csv")
        export(board, "md", HERE / f"{suite}.md")
    page = rv.write_report(store, HERE / "demo.html")
    screenshot(page, HERE / "demo.png")


if __name__ == "__main__":
    main()
