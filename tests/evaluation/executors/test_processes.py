"""Several processes of one machine compute one run: the rows of one process, whichever of them is killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import robustvit as rv
from robustvit.errors import BadParameter, UsageError, WorkersLost
from robustvit.evaluation.executors import workers
from robustvit.evaluation.executors.packing import packed
from robustvit.evaluation.executors.workers import RunRequest, cells_digest, compute_share, versions
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.records.sharing.failures import failed_since, store_clock
from robustvit.records.store import Store

Same = Callable[[Path, Path], bool]
LIMIT = 8
WORKER = b"robustvit.evaluation.executors.processes"


def children(process: int) -> list[int]:
    """The workers that a process started and that are alive."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and WORKER in (folder / "cmdline").read_bytes().split(b"\0"):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(folder.name)] if parent == process else []
        except OSError:
            continue
    return found


def is_worker(process: int) -> bool:
    """Whether a process is alive and a worker."""
    try:
        return WORKER in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def started(suite: Path, store: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "robustvit", "run", "--suite", str(suite), "--store", str(store), "--limit", str(LIMIT), "-q", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def request_for(suite: Path, store: Path, **changes: object) -> RunRequest:
    settings = Settings(limit=LIMIT)
    bound = rv.load_suite(suite)
    plan = make(bound, ["demo"], None, settings)
    given = RunRequest(bound, ["demo"], None, settings, store, "", 1, None, 0.0, versions(), cells_digest(plan))
    return replace(given, **changes)  # type: ignore[arg-type]


def test_two_processes_compute_what_one_computes(suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same) -> None:
    shown: list[tuple[int, int]] = []
    done = rv.run(
        suite_file, ["demo"], store=tmp_path / "s", limit=LIMIT, processes=2, progress=lambda done, total, what: shown.append((done, total))
    )
    assert done.computed == done.rows
    assert done.complete == done.cells
    assert same_rows(alone, tmp_path / "s")
    assert shown[-1][0] <= shown[-1][1]
    again = rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=LIMIT, processes=2, progress=False)
    assert again.computed == 0


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_worker_costs_its_piece_and_is_started_again(suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same) -> None:
    run = started(suite_file, tmp_path / "s", "--processes", "2")
    killed: set[int] = set()
    while run.poll() is None and len(killed) < 2:
        new = [one for one in children(run.pid) if one not in killed]
        if new and any((tmp_path / "s" / "cells").glob("*/*.parquet")):
            os.kill(new[0], signal.SIGKILL)
            killed.add(new[0])
        time.sleep(0.3)
    assert run.wait(240) == 0, run.stderr.read() if run.stderr else ""
    assert killed
    assert same_rows(alone, tmp_path / "s")


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_the_process_that_started_them(suite_file: Path, tmp_path: Path) -> None:
    run = started(suite_file, tmp_path / "s", "--processes", "2")
    until(lambda: len(children(run.pid)) == 2)
    left = children(run.pid)
    run.kill()
    run.wait()
    until(lambda: not any(is_worker(one) for one in left), 30)


def test_a_cell_that_fails_is_tried_by_one_worker_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_scenario.py").write_text(f"""
from pathlib import Path
import robustvit as rv

@rv.corruption(name="breaks_in_workers", source="made", family="noise")
def breaks(images, draws):
    with open({str(tmp_path / "tries")!r}, "a") as file:
        file.write("x")
    raise ValueError("it breaks")
""")
    scenarios = "['failing_scenario:breaks', clean, fog: {severity: [1, 2, 3]}]"
    (tmp_path / "s.yaml").write_text(f"name: s\ntitle: Breaks\ndata: digits\nmetrics: [top1]\nscenarios: {scenarios}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    suite = rv.load_suite(tmp_path / "s.yaml", allow_code=True)
    for processes, tries in ((2, 1), (None, 2)):  # the next run tries it again
        done = rv.run(suite, ["demo"], store=tmp_path / "store", limit=2 * LIMIT, processes=processes, progress=False, batch_size=LIMIT)
        assert list(done.failed.values()) == ["ValueError: it breaks"]
        assert (tmp_path / "tries").read_text() == "x" * tries
    assert done.complete == done.cells - 1


@pytest.mark.processes
def test_what_workers_raise_is_told_in_one_sentence_and_the_same_command_goes_on(
    suite_file: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_rows: Same
) -> None:
    monkeypatch.setattr("robustvit.evaluation.run.versions", lambda: {**versions(), "torch": "1.0"})
    with pytest.raises(
        WorkersLost, match=r"^2 of 2 workers ended early, and \d+ rows are still to compute: .*torch .* in place of 1\.0\. Inst"
    ):
        rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=LIMIT, processes=2, progress=False)
    monkeypatch.undo()
    rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=LIMIT, progress=False)
    assert same_rows(alone, tmp_path / "s")


def test_a_worker_with_other_versions_or_cells_computes_nothing(suite_file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "s", create=True)
    other = compute_share(request_for(suite_file, store.path, versions={**versions(), "numpy": "0.1"}), 0)
    assert "numpy" in other.error
    assert "0.1" in other.error
    assert "other weights or other data" in compute_share(request_for(suite_file, store.path, cells="x"), 0).error
    assert store.cells() == []


def test_a_share_computes_all_that_nobody_else_does(suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same) -> None:
    store = Store(tmp_path / "s", create=True)
    found = compute_share(request_for(suite_file, store.path, count=3, since=store_clock(store)), 2)
    assert not found.error
    assert found.computed == sum(len(part) for part in [Store(alone).records().to_pandas()])
    assert same_rows(alone, tmp_path / "s")
    assert store.manifests() == []  # the process that leads writes it


@pytest.mark.processes
def test_a_budget_that_is_spent_stops_workers_too(suite_file: Path, tmp_path: Path) -> None:
    done = rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=LIMIT, processes=2, budget=0.01, progress=False)
    assert done.stopped
    assert 0 < done.computed < done.rows


def test_a_model_that_cannot_be_sent_is_refused(suite_file: Path, tmp_path: Path) -> None:
    class Local(nn.Linear):
        """A class of this function, which no other process knows."""

    model = rv.Classifier(nn.Sequential(nn.Flatten(), Local(3 * 32 * 32, 10)), name="mine", size=32)
    with pytest.raises(UsageError, match="cannot be sent to other processes"):
        packed(request_for(suite_file, tmp_path / "s", models=[model]))
    named = rv.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), name="mine", size=32)
    assert pickle.loads(packed(request_for(suite_file, tmp_path / "s", models=[named])))


def test_failures_count_by_the_clock_of_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", create=True)
    before = store_clock(store)
    store.fail("c" * 20, "it broke")
    assert failed_since(store, "c" * 20, before) == "it broke"
    assert failed_since(store, "d" * 20, before) is None
    os.utime(store.path / "cells" / ("c" * 20) / "failure.json", (before - 5, before - 5))
    assert failed_since(store, "c" * 20, before) is None
    assert not list((store.path / "leases").iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "rey"}, r"--executor 'rey' is unknown\. Did you mean 'ray'\? It takes local, torchrun, ray, slurm\."),
        ({"processes": 0}, "--processes"),
        ({"address": "auto"}, r"--address is not for --executor local; ray takes it\."),
        ({"executor": "torchrun", "processes": 2}, r"--processes is not for --executor torchrun; local and ray and slurm take it\."),
        ({"resources": {"num_gpus": "1"}}, r"--resources is not for --executor local; ray and slurm take it\."),
        ({"device": "cpu,cpu", "processes": 2}, "several devices are for --executor local"),
        ({"device": "cpu,cpu"}, "names a device twice"),
        ({"device": "cuda:0,nonsense"}, "no device"),
    ],
)
def test_options_that_do_not_go_together(suite_file: Path, tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        rv.run(suite_file, ["demo"], store=tmp_path / "s", limit=LIMIT, progress=False, **options)
    assert not (tmp_path / "s").exists()


def test_the_module_of_workers_is_where_it_is_looked_for() -> None:
    assert workers.__name__.rpartition(".")[0] == WORKER.decode().rpartition(".")[0]
