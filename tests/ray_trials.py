"""Trials on a Ray cluster of several machines, all of them this one: what is killed while a run is computed, and what must hold afterwards.

`python tests/ray_trials.py [COUNT [SEED]]` runs many, on one cluster for as long as its head is not what is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from robustvit.records.records import read
from robustvit.records.store import Store

KINDS = ("worker", "machine", "driver")
LIMIT = 8
TEXT = """
name: trial
title: Corruptions, a chain of attacks and a certificate
data: digits
scenarios:
  - clean
  - gaussian_noise: {severity: [1, 3, 5]}
  - fog: {severity: [1, 3, 5]}
  - pixelate: {severity: [1, 3, 5]}
  - autoattack: {eps: 16/255}
  - columns: {width: 3}
metrics: [top1]
"""


class RayCluster:
    """A head without room for workers, and two machines with room for one each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.machines = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_machine(self, place: int) -> None:
        """Kills a machine with all that runs on it, and adds another."""
        self.cluster.remove_node(self.machines[place], allow_graceful=False)
        self.machines[place] = self.cluster.add_node(num_cpus=1)

    def close(self) -> None:
        self.cluster.shutdown()


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster for the length of a block."""
    made = RayCluster()
    try:
        yield made
    finally:
        made.close()


def command(suite: Path, store: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "robustvit", "run", "--suite", str(suite), "--store", str(store), "--limit", str(LIMIT), "-q", *words]


def tables(store: Path) -> dict[str, pd.DataFrame]:
    place = Store(store)
    return {cell: read(place.files(cell)) for cell in place.cells()}


def problems(cluster: RayCluster, kind: str, delay: float, suite: Path, store: Path, right: dict[str, pd.DataFrame]) -> list[str]:
    """What does not hold after a run of which something was killed `delay` seconds after the first rows; nothing where all does."""
    words = command(suite, store, "--executor", "ray", "--address", cluster.address, "--processes", "2")
    run = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    _await_rows(run, store)
    time.sleep(delay)
    struck = run.poll() is None and _strike(cluster, kind, run, random.Random(delay))
    _, told = run.communicate(timeout=300)
    if kind == "driver" and struck:
        again = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        code, told = again.returncode, again.stderr
    else:
        code = run.returncode
    found = [] if code == 0 else [f"exit code {code}: {told[-1500:]}"]
    made = tables(store)
    if made.keys() != right.keys():
        found.append(f"cells differ: {sorted(made.keys() ^ right.keys())}")
    found += [f"rows of {cell} are others" for cell in made.keys() & right.keys() if not made[cell].equals(right[cell])]
    return found


def _await_rows(run: subprocess.Popen[str], store: Path) -> None:
    end = time.monotonic() + 180
    while run.poll() is None and not any(store.glob("cells/*/*.parquet")):
        if time.monotonic() > end:
            raise TimeoutError("no rows in three minutes")
        time.sleep(0.05)


def _strike(cluster: RayCluster, kind: str, run: subprocess.Popen[Any], rng: random.Random) -> bool:
    if kind == "machine":
        cluster.lose_machine(rng.randrange(2))
        return True
    found = [run.pid] if kind == "driver" else _workers()
    if found:
        os.kill(rng.choice(found), signal.SIGKILL)
    return bool(found)


def _workers() -> list[int]:
    """The processes of Ray that compute a share."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and (folder / "cmdline").read_bytes().startswith(b"ray::share_of_packed"):
                found.append(int(folder.name))
    return found


def main(count: int = 200, seed: int = 22) -> int:
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="ray-trials-"))
    (folder / "trial.yaml").write_text(TEXT)
    began = time.monotonic()
    subprocess.run(command(folder / "trial.yaml", folder / "alone"), check=True)
    right, length = tables(folder / "alone"), time.monotonic() - began
    bad = 0
    with ray_cluster() as cluster:
        for number in range(count):
            kind, delay = rng.choice(KINDS), rng.random() * length
            found = problems(cluster, kind, delay, folder / "trial.yaml", folder / "store", right)
            bad += bool(found)
            print(f"{number + 1:4} of {count}  {kind:8} after {delay:5.1f} s  {'; '.join(found) or 'as it should be'}", flush=True)
            shutil.rmtree(folder / "store", ignore_errors=True)
    shutil.rmtree(folder)
    print(f"{bad} of {count} trials went wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
