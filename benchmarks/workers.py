"""What several workers of this machine are worth: wall and CPU seconds of a run by each executor, beside one process.

    python benchmarks/workers.py [--model MODEL] [--suite SUITE] [--limit 24] [--workers 2] [--repeats 3] [--only NAME …] [--tiny]

local        `robustvit run` in one process, on one thread.
processes    the same with `--processes`.
torchrun     `torchrun --nproc-per-node`.
ray          `--executor ray` on a cluster of as many raylets with one CPU each, which is started before the clock.

Each run fills a new store, and the rows of all are compared with those of the first: `same`. Whole processes are timed, with their start;
CPU seconds are those of all processes that a run started, Ray's workers among them, and include loading the model once a worker.
`speed-up` and `CPU / local` are medians of the turns' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from _measuring import ratio

from robustvit.records.records import read
from robustvit.records.store import Store

EXECUTORS = ("local", "processes", "torchrun", "ray")
TICKS = os.sysconf("SC_CLK_TCK")
MARK = f"ROBUSTVIT_BENCHMARK={os.getpid()}".encode()


def cpu_seconds() -> float:
    """User and system seconds of all processes that this one started, directly or not, and of those that they waited for (Linux).

    They are known by a variable of their environment, because those of a cluster have left their parents.
    """
    spent = 0.0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if MARK in (folder / "environ").read_bytes().split(b"\0") or int(folder.name) == os.getpid():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                spent += sum(map(int, fields[11:15])) / TICKS
    return spent


@contextlib.contextmanager
def ray_cluster(workers: int) -> Iterator[str]:
    """The address of a cluster of this machine: a head without room, and as many raylets as workers."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def commands(workers: int, address: str) -> dict[str, list[str]]:
    """How each executor's run begins, and what it is given."""
    run = [sys.executable, "-m", "robustvit", "run"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(workers), "-m", "robustvit", "run"]
    return {
        "local": run,
        "processes": [*run, "--processes", str(workers)],
        "torchrun": [*torchrun, "--executor", "torchrun"],
        "ray": [*run, "--executor", "ray", "--address", address, "--processes", str(workers)],
    }


def timed(words: Sequence[str], store: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a run into a new store. Raises CalledProcessError where it fails."""
    shutil.rmtree(store, ignore_errors=True)
    before, began = cpu_seconds(), time.perf_counter()
    subprocess.run([*words, "--store", str(store), "-q"], check=True)
    return time.perf_counter() - began, cpu_seconds() - before


def tables(store: Path) -> dict[str, pd.DataFrame]:
    """The rows of each cell."""
    place = Store(store)
    return {cell: read(place.files(cell)) for cell in place.cells()}


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> bool:
    """Whether two stores have the same rows, to the bit."""
    return one.keys() == other.keys() and all(one[cell].equals(other[cell]) for cell in one)


def measure(given: argparse.Namespace, folder: Path, tell: Callable[[str], None] = print) -> None:
    """Runs every executor in turns and prints the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["ROBUSTVIT_BENCHMARK"] = str(os.getpid())
    of = ["--suite", given.suite, "--model", given.model, "--data", "digits", "--limit", str(given.limit), "-b", "16"]
    with ray_cluster(given.workers) if "ray" in given.only else contextlib.nullcontext("") as address:
        known = {name: words for name, words in commands(given.workers, address).items() if name in given.only}
        wall: dict[str, list[float]] = {name: [] for name in known}
        cpu: dict[str, list[float]] = {name: [] for name in known}
        first: dict[str, pd.DataFrame] | None = None
        equal = dict.fromkeys(known, True)
        for turn in range(given.repeats):
            names = list(known)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds, spent = timed([*known[name], *of], folder / name)
                wall[name].append(seconds)
                cpu[name].append(spent)
                rows = tables(folder / name)
                first = first or rows
                equal[name] = equal[name] and same(first, rows)
    rows_of = sum(map(len, (first or {}).values()))
    tell(f"{rows_of:,} rows of {given.suite}, {given.model}; {given.workers} workers with one thread each\n")
    tell("| | wall, s | speed-up | CPU, s | CPU / local | rows |\n|---|--:|--:|--:|--:|---|")
    for name in known:
        faster, dearer = (
            (f"{ratio(wall['local'], wall[name]):.2f}", f"{ratio(cpu[name], cpu['local']):.2f}") if "local" in known else ("", "")
        )
        middle = statistics.median
        tell(
            f"| {name} | {middle(wall[name]):.1f} | {faster} | {middle(cpu[name]):.1f} | {dearer} | {'same' if equal[name] else 'other'} |"
        )
    if not all(equal.values()):
        raise SystemExit("rows differ")


def main() -> None:
    """Reads the options and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_tiny_patch16_224?weights=random&num_classes=10")
    parser.add_argument("--suite", default="imagenet-c")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=EXECUTORS, default=list(EXECUTORS))
    parser.add_argument("--tiny", action="store_true", help="the demo on a few digits, to see that everything works")
    given = parser.parse_args()
    if given.tiny:
        given.model, given.suite, given.limit, given.repeats, given.only = "demo", "quick", 4, 1, ["local", "processes"]
    with tempfile.TemporaryDirectory() as folder:
        measure(given, Path(folder))


if __name__ == "__main__":
    main()
