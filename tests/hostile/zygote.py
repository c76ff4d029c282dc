"""Makes hostile calls, each in a process of its own that is forked from one in which everything is imported.

    python zygote.py CALLS.json ANSWERS.jsonl

A fork costs milliseconds where a start costs seconds, and neither a hang, nor memory without end, nor a crash of one call reaches another.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

SECONDS = 10  # of computing that a call may take
WAIT = 40  # seconds until it is over, on a machine that does other things too
MEMORY = 3 << 30  # bytes that a call may take beyond what is imported
START = """
import numpy as np, torch
import robustvit as rv
x, y = torch.full((2, 3, 32, 32), 0.5), torch.zeros(2, dtype=torch.int64)
model = rv.load_model("demo")
"""  # of every script
SCRIPT: dict[str, Any] = {"__name__": "script"}
FILE = 64 << 20  # bytes that a call may write into one file


def warm() -> None:
    """Imports what calls use, and takes the slow first steps of torch once."""
    import pandas  # noqa: F401
    import torch

    torch.set_num_threads(1)
    from robustvit.cli import app  # noqa: F401
    from robustvit.cli.commands import catalogue, corrupt_folder, data_check, data_status, scaffold  # noqa: F401
    from robustvit.evaluation import run  # noqa: F401
    from robustvit.evaluation.cost import estimate  # noqa: F401
    from robustvit.evaluation.loading import load_data, load_model
    from robustvit.models import factory, hf, timm  # noqa: F401
    from robustvit.report import page, pareto_plot  # noqa: F401
    from robustvit.results import comparison, export, leaderboard, summary  # noqa: F401
    from robustvit.results.factors import tables, view  # noqa: F401
    from robustvit.results.published import agreement, files  # noqa: F401
    from robustvit.training import run as training  # noqa: F401

    _ = load_model("demo").outputs
    load_data("digits")
    exec(START, SCRIPT)


def answered(call: dict[str, Any], log: Path) -> dict[str, Any]:
    """What a call did: code, out, err, seconds, and whether it had to be ended."""
    began = time.monotonic()
    child = os.fork()
    if not child:
        _serve(call, log)
    code = None
    while code is None:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() - began > WAIT:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": None, "hung": True, "seconds": time.monotonic() - began, **_texts(log)}
        else:
            time.sleep(0.002)
    return {"code": code, "hung": code == -signal.SIGXCPU, "seconds": time.monotonic() - began, **_texts(log)}


def _texts(log: Path) -> dict[str, str]:
    return {name: (log / name).read_text("utf-8", "replace")[-20_000:] for name in ("out", "err")}


def _serve(call: dict[str, Any], log: Path) -> None:
    """Makes the call, in the child, and ends."""
    os.setpgid(0, 0)
    for number, name, flags in ((0, "/dev/null", os.O_RDONLY), (1, str(log / "out"), 577), (2, str(log / "err"), 577)):
        os.dup2(os.open(name, flags, 0o600), number)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.chdir(tempfile.mkdtemp(dir=log))
    os.environ.update(call.get("env", {}))
    code = 70
    try:
        code = _command(call["words"]) if "words" in call else _statement(call["code"])
    except BaseException:  # noqa: BLE001  whatever gets here is a traceback for a user
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _command(words: list[str]) -> int:
    from robustvit.cli.app import main

    sys.argv = ["robustvit", *words]
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def _statement(code: str) -> int:
    """Runs Python as a user's script would; a RobustvitError is an answer, with the exit code of the command line."""
    from robustvit.errors import RobustvitError

    try:
        exec(compile(code, "script", "exec"), SCRIPT)
    except RobustvitError as error:
        print(f"robustvit: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def main() -> None:
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others reserve more addresses than a call may have
    calls, place = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    warm()
    with tempfile.TemporaryDirectory() as folder, place.open("w") as answers:
        for number, call in enumerate(calls):
            log = Path(folder, str(number))
            log.mkdir()
            print(json.dumps(answered(call, log)), file=answers, flush=True)


if __name__ == "__main__":
    main()
