"""Computes the Records that the committed boards are made of: `nox -s records`, resumable.

    OMP_NUM_THREADS=1 python reports/records.py [--only BOARD/SUITE …] [--list]

`boards.yaml` says which models run which suites. What a store holds is not computed again, so that the command goes on where it was
killed, and does nothing where all is there. Every finished cell is compacted; galleries that no board shows,
remainders and images that attacks left are removed. `reports/regenerate.py` writes the boards.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from board_plan import BoardPlan, BoardRun, chosen_suites, read_plan

import robustvit as rv
from robustvit.records.compacted.compaction import compact
from robustvit.records.store import Store
from robustvit.records.upkeep.garbage import collect


def compute(board: BoardPlan, run: BoardRun) -> list[str]:
    """Runs one suite of a board on its models; returns what failed, one line each."""
    failed = []
    for models, command in run.commands():
        started, before = time.process_time(), _environments(board.store)
        done = rv.run(
            run.suite, models=list(models), data=run.data, limit=run.limit, surrogates=run.surrogates, store=board.store, command=command,
            progress=False, device="cpu",
        )  # fmt: skip
        if not done.computed:  # the versions of a run that computed nothing are of no row, and of a manifest if it is a new one
            named = {manifest.environment for manifest in Store(board.store).manifests()}
            for name in _environments(board.store) - before - named:
                (board.store / "environments" / f"{name}.json").unlink()
        else:
            print(f"{command}: {done.computed} rows in {time.process_time() - started:.0f} s of CPU", flush=True)
        failed += [f"{command}: cell {cell}: {reason}" for cell, reason in done.failed.items()]
    return failed


def tidy(board: BoardPlan) -> None:
    """Compacts the finished cells of a store; removes galleries that no page shows, images that attacks left, and what nothing names."""
    store = Store(board.store)
    compact(store)
    if not board.page:
        for gallery in sorted(board.store.glob("cells/*/gallery*.parquet")):
            gallery.unlink()
    collect(store, images=True)
    (board.store / "verified.json").unlink(missing_ok=True)
    for lock in board.store.glob("leases/*.lock"):
        lock.unlink()
    for path in (*board.store.glob("cells/*/cell.json"), *board.store.glob("runs/*.json")):  # a third of what is committed
        path.write_text(json.dumps(json.loads(path.read_bytes()), sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def _environments(store: Path) -> set[str]:
    return {path.stem for path in (store / "environments").glob("*.json")}


def main() -> None:
    """Computes what the stores lack, then compacts and tidies them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="BOARD/SUITE", help="these alone; patterns such as 'zoo/imagenet-*'")
    parser.add_argument("--list", action="store_true", help="print the commands, and compute nothing")
    given = parser.parse_args()
    failed: list[str] = []
    for board, suites in chosen_suites(list(read_plan().values()), given.only):
        runs = [run for run in board.runs if not suites or run.suite in suites]
        if given.list:
            print("\n".join(f"{board.name}: {command}" for run in runs for _, command in run.commands()))
            continue
        for run in runs:
            failed += compute(board, run)
        tidy(board)
    if failed:
        print("\n".join(["failed:", *failed]), file=sys.stderr)


if __name__ == "__main__":
    main()
