"""A process that has imported robustvit once and forks a child for every command line: a trial costs its work, not the imports.

`Zygote(warm).run([Child(…), …])` starts children together and waits for all. The process that forks has one thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds after which a child is stuck


@dataclass(frozen=True)
class Child:
    """A command line of robustvit in a folder, and what befalls it.

    kind, at: a fault at an operation on the folder, see fault_layer. signal, delay: a signal after so many seconds. size: no file may
    grow beyond so many bytes (0: no limit). cache: the folder of decoded images.
    """

    words: tuple[str, ...]
    folder: str
    cache: str
    kind: str = ""
    at: int = 0
    signal: str = ""
    delay: float = 0.0
    size: int = 0


@dataclass(frozen=True)
class Ended:
    """code: the exit code, or minus the signal; `STUCK` where it had to be stopped. operations: those it made, where it told."""

    code: int
    told: str
    seconds: float
    operations: list[str] = field(default_factory=list)


STUCK = 999


class Zygote:
    """The process that forks. Used as a context, it ends with it."""

    def __init__(self, warm: Sequence[Sequence[str]] = ()) -> None:
        here = Path(__file__).resolve()
        self._process = subprocess.Popen(
            [sys.executable, str(here)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )  # fmt: skip
        self._say(warm)

    def run(self, children: Sequence[Child]) -> list[Ended]:
        """Starts children at the same time; what became of each."""
        self._say([asdict(child) for child in children])
        assert self._process.stdout is not None
        return [Ended(**one) for one in json.loads(self._process.stdout.readline())]

    def _say(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def _serve() -> None:
    """Forks what the standard input asks for, line by line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _warm(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        wanted = [Child(**{**one, "words": tuple(one["words"])}) for one in json.loads(line)]
        answers.write(json.dumps([asdict(ended) for ended in _run(wanted)]) + "\n")
        answers.flush()


def _run(wanted: Sequence[Child]) -> list[Ended]:
    began = time.monotonic()
    running = {}
    for number, child in enumerate(wanted):
        pid, told = _fork(child, number)
        running[pid] = (child, number, told)
    signalled: set[int] = set()
    found: dict[int, Ended] = {}
    while running:
        spent = time.monotonic() - began
        for pid, (child, number, told) in list(running.items()):
            if child.signal and spent >= child.delay and pid not in signalled:
                signalled.add(pid)
                os.kill(pid, getattr(signal, f"SIG{child.signal.upper()}"))
            if spent > PATIENCE:
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[pid]
                code = STUCK if spent > PATIENCE else os.waitstatus_to_exitcode(status)
                found[number] = Ended(code, _drained(told), spent, _operations(child, number))
        time.sleep(0.005)
    return [found[number] for number in range(len(wanted))]


def _drained(pipe: int) -> str:
    with open(pipe, "rb") as told:
        return told.read().decode(errors="replace")


def _operations(child: Child, number: int) -> list[str]:
    path = Path(f"{child.folder}.{number}.operations")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    path.unlink(missing_ok=True)
    return text.splitlines()


def _fork(child: Child, number: int) -> tuple[int, int]:
    """The child, and the pipe with what it tells: a pipe has room on a full disk."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 70
    try:
        os.close(reading)
        code = _be(child, number, writing)
    finally:
        os._exit(code)


def _be(child: Child, number: int, told: int) -> int:
    from faults.fault_layer import FaultLayer

    from robustvit.cli import running
    from robustvit.cli.app import main

    running.print_run = _print_failed
    os.dup2(told, 1)
    os.dup2(told, 2)
    os.chdir(child.folder)
    os.environ["ROBUSTVIT_CACHE"] = child.cache
    sys.argv = ["robustvit", *child.words]
    if child.size:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (child.size, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a parent in the background ignores
    layer = FaultLayer(child.folder, child.kind, child.at)
    layer.install()
    code: Any = 0
    try:
        main()
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 (whatever it is, it is what the trial shows)
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    layer.root = "/nowhere"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(f"{child.folder}.{number}.operations").write_text("\n".join(layer.seen), encoding="utf-8")
    return code if isinstance(code, int) else int(bool(code))


def _print_failed(done: Any, options: Any) -> None:
    """Instead of leaderboard and page, which have trials of their own and take most of a run's time here."""
    for reason in done.failed.values():
        print(f"failed: {reason}", file=sys.stderr)


def _warm(commands: Sequence[Sequence[str]]) -> None:
    """Runs command lines here, so that what they import, compile and read once is there in every child."""
    from robustvit.cli.app import main

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        os.chdir(folder)
        os.environ["ROBUSTVIT_CACHE"] = folder
        for words in commands:
            sys.argv = ["robustvit", *words]
            with contextlib.suppress(SystemExit):
                main()
        os.chdir("/")


if __name__ == "__main__":
    _serve()
