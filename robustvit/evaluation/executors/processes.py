"""Workers as processes of this machine: one for each device, or as many as are wanted."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from robustvit.evaluation.executors.packing import packed, share_of_packed
from robustvit.evaluation.executors.shares import ShareOutcome
from robustvit.evaluation.executors.workers import RunRequest

TRIES = 4  # times that the worker of a share is started
_PAUSE = 0.1  # seconds between two looks at the workers


def run_processes(request: RunRequest, devices: Sequence[str | None], watch: Callable[[], None]) -> list[ShareOutcome]:
    """Computes the shares of a run, each in a process on its device; what they did, and what ended those that did not come to an end.

    watch: called again and again while they compute. A process that is killed is started again, three times at most: it goes on where the
    store ends. All end with this process, however that ends.
    """
    with tempfile.TemporaryDirectory(prefix="robustvit-") as folder:
        given = Path(folder) / "request"
        given.write_bytes(packed(request))
        workers = [_Worker(given, index, device, request.count) for index, device in enumerate(devices)]
        try:
            while sum(one.over() for one in workers) < len(workers):  # all are looked at
                watch()
                time.sleep(_PAUSE)
            return [one.outcome() for one in workers]
        finally:
            for one in workers:
                one.stop()


class _Worker:
    """The process of one share, and its outcome once it is over."""

    def __init__(self, given: Path, index: int, device: str | None, count: int) -> None:
        self.given, self.index, self.device, self.count = given, index, device, count
        self.told = given.with_name(f"outcome-{index}")
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Starts the process, once more where it was lost."""
        words = [sys.executable, "-m", "robustvit.evaluation.executors.processes", str(self.given), str(self.index), str(self.told)]
        threads = str(max(1, (os.cpu_count() or 1) // self.count))  # of a core each, all together
        places = os.pathsep.join(dict.fromkeys(os.path.abspath(place) for place in sys.path))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": places}
        self.starts += 1
        self.process = subprocess.Popen([*words, *([self.device] if self.device else [])], stdin=subprocess.PIPE, env=environment)

    def over(self) -> bool:
        """Whether its share is done, or given up."""
        if self.process.poll() is None:
            return False
        if self.told.exists() or self.starts >= TRIES or self.process.returncode > 0:
            return True
        self.start()
        return False

    def outcome(self) -> ShareOutcome:
        """What its share did, or how it ended."""
        if self.told.exists():
            found: ShareOutcome = pickle.loads(self.told.read_bytes())
            return found
        code = self.process.returncode
        how = f"was killed by signal {-code}, {self.starts} times" if code < 0 else f"ended with exit code {code}"
        return ShareOutcome(error=f"worker {self.index} {how}")

    def stop(self) -> None:
        """Ends the process, if it has not ended."""
        if self.process.poll() is None:
            self.process.terminate()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def _end_with_parent() -> None:
    """Ends this process when the one that started it has ended, which closes this pipe."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _main(given: str, index: str, told: str, device: str | None = None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome = share_of_packed(Path(given).read_bytes(), int(index), device)
    draft = Path(told).with_suffix(".draft")
    draft.write_bytes(pickle.dumps(outcome))
    draft.replace(told)


if __name__ == "__main__":
    _main(*sys.argv[1:])
