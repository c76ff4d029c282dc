"""Trials of a store in object storage: machines that write one store through a service that fails, and what must hold.

Whatever happens: a row that is read is the row that was computed; what a write returned from is not lost, unless the object was damaged;
and once the service is well again, whoever is left completes the store. `python tests/remote_trials.py [COUNT [SEED]]` runs many.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from object_server import BUCKET, ObjectServer, object_server

from robustvit.errors import RobustvitError, StoreError
from robustvit.records import disk
from robustvit.records.records import read, table
from robustvit.records.remote import object_place, remote_leases
from robustvit.records.remote.mirrored import MIRRORS
from robustvit.records.remote.remote_leases import EXPIRY
from robustvit.records.store import Store
from robustvit.spec.spec import digest

PIECES, LENGTH = 4, 3  # of a cell; rows of one
CELLS = {digest({"number": number}): {"number": number} for number in range(3)}
KINDS = ("errors", "short", "clock", "truncated", "full disk", "held lease", "stolen lease", "gone mirror")


def truth(cell: str, piece: int) -> dict[str, list[object]]:
    ids = range(piece * LENGTH, (piece + 1) * LENGTH)
    return {"sample": [f"s{at:03}" for at in ids], "label": [0] * LENGTH, "pred": [(at + int(cell[:4], 16)) % 7 for at in ids]}


class Machine:
    """A machine with a cache of its own, which opens the store anew where it was killed."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        MIRRORS.clear()
        with mock.patch.dict(os.environ, {"ROBUSTVIT_CACHE": str(self.folder)}):
            yield Store(self.url, create=True)
        MIRRORS.clear()

    def work(self, cell: str, written: set[tuple[str, int]]) -> None:
        """Adds the next piece of a cell, as a worker does: under its lease, from where the store ends."""
        remote_leases._looked.clear()  # as if it had waited until the next look
        with self.store() as store, store.lease(cell, 0) as mine:
            if not mine:
                return
            store.update("cells", cell)
            store.declare(cell, CELLS[cell])
            store.set_aside(cell)
            reached = store.reached(cell, 0)
            if reached < PIECES * LENGTH:
                store.write(cell, 0, reached, table(truth(cell, reached // LENGTH)), {"seconds": 1.0, "environment": "e"})
                written.add((cell, reached // LENGTH))


def problems(seed: int, folder: Path, server: ObjectServer) -> list[str]:
    """What does not hold after a trial; nothing where all does."""
    rng = random.Random(seed)
    url = f"s3://{BUCKET}/trial-{seed}"
    machines = [Machine(folder / f"{seed}-{number}", url) for number in range(2)]
    written: set[tuple[str, int]] = set()
    damaged: set[str] = set()
    server.rng = random.Random(seed)
    for _ in range(rng.randrange(4, 9)):
        _strike(rng, rng.choice(KINDS), machines, url, server, written, damaged)
    server.errors = server.short = 0.0
    server.ahead += 2 * EXPIRY  # leases of the killed are old now
    found = [] if (lost := _lost(machines[0], written, damaged)) == [] else [f"lost: {lost}"]
    for _ in range(3 * PIECES * len(CELLS)):
        for cell in CELLS:
            rng.choice(machines).work(cell, written)
    with machines[1].store() as store:
        for cell in CELLS:
            rows = read(store.files(cell))
            right = [value for piece in range(PIECES) for value in truth(cell, piece)["pred"]]
            if rows["pred"].tolist() != right:
                found.append(f"{cell} has {rows['pred'].tolist()} in place of {right}")
    return found


def _lost(machine: Machine, written: set[tuple[str, int]], damaged: set[str]) -> list[tuple[str, int]]:
    """Pieces that a write returned from and that are not there, of cells of which nothing was damaged."""
    with machine.store() as store:
        reached = {cell: store.reached(cell, 0) for cell in CELLS}
    return sorted(one for one in written if one[0] not in damaged and reached[one[0]] < (one[1] + 1) * LENGTH)


def _strike(
    rng: random.Random, kind: str, machines: list[Machine], url: str, server: ObjectServer, written: set[tuple[str, int]], damaged: set[str]
) -> None:
    """Some work, while something is wrong."""
    machine, cell = rng.choice(machines), rng.choice(sorted(CELLS))
    prefix = url.partition(f"{BUCKET}/")[2]
    server.errors = rng.random() * 0.4 if kind == "errors" else 0.0
    server.short = rng.random() * 0.4 if kind == "short" else 0.0
    jump = rng.uniform(-1e6, 1e6) if kind == "clock" else 0.0  # of the machine's own clock
    full: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if kind == "truncated":
        files = [name for name in server.objects if name.startswith(f"{prefix}/cells/{cell}/")]
        if files:
            name = rng.choice(sorted(files))
            content, _, then = server.objects[name]
            server.objects[name] = content[: rng.randrange(len(content))], f'"cut{rng.random()}"', then
            damaged.add(cell)
    elif kind == "full disk":
        full = mock.patch.object(disk, "_written", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    elif kind == "held lease":
        server.objects[f"{prefix}/leases/{cell}-000000.lock"] = b"another", '"another"', server.now()
    elif kind == "gone mirror":
        for path in sorted(machine.folder.rglob("*.parquet")):
            path.unlink()
    ticking = time.time
    with (
        full,
        mock.patch("time.time", side_effect=lambda: ticking() + jump),
        contextlib.suppress(RobustvitError),
    ):  # whoever fails is told so, and nothing more is lost
        if kind == "stolen lease":
            with machine.store() as store, store.lease(cell, 0):
                server.objects[f"{prefix}/leases/{cell}-000000.lock"] = b"another", '"another"', server.now() - 2 * EXPIRY
                machines[1 - machines.index(machine)].work(cell, written)
        for _ in range(rng.randrange(1, 3)):
            machine.work(cell, written)


@contextlib.contextmanager
def trial_place() -> Iterator[tuple[Path, ObjectServer]]:
    """A folder and a service for trials, whose clients repeat requests without long pauses."""
    with (
        tempfile.TemporaryDirectory(prefix="remote-trials-") as folder,
        object_server() as server,
        mock.patch.dict(os.environ, server.environment),
        mock.patch.object(
            object_place,
            "_BACKOFF",
            {"init_backoff": object_place.timedelta(milliseconds=5), "max_backoff": object_place.timedelta(milliseconds=20), "base": 2},
        ),
    ):
        yield Path(folder), server


def main(count: int = 1000, seed: int = 22) -> int:
    bad, began = 0, time.monotonic()
    with trial_place() as (folder, server):
        for number in range(count):
            try:
                found = problems(seed * 1_000_000 + number, folder, server)
            except StoreError as error:
                found = [f"raised {error}"]
            bad += bool(found)
            if found or number % 100 == 99:
                print(f"{number + 1:5} of {count}  {'; '.join(found) or 'as they should be'}  {time.monotonic() - began:.0f} s", flush=True)
            server.objects.clear()
    print(f"{bad} of {count} trials went wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
