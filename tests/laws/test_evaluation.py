"""Laws of a whole run: the same Records whatever the order, the workers, the interruptions and the company."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch

import robustvit as rv
from robustvit.errors import UsageError
from robustvit.evaluation import run as runner
from robustvit.evaluation.executors import local
from robustvit.evaluation.time_budget import Deadline
from robustvit.records.records import read as read_rows
from robustvit.records.records_file import RecordsFile
from robustvit.records.store import Store
from robustvit.spec.suite import Suite
from robustvit.spec.suite_file import read_suite

SMALL = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=24,depth=1,num_heads=2"
LARGE = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=depth=2"
TEXT = """
name: law
title: A bit of everything
data: digits
scenarios:
  - clean
  - gaussian_noise: {severity: [1, 5]}
  - elastic_transform: {severity: 3}
  - fog: {severity: 3}
  - pgd: {eps: 1/255, steps: 3}
metrics: [top1]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "law.yaml").write_text(TEXT)
    return read_suite(tmp_path / "law.yaml", "law.yaml")


def tables(store: Path) -> dict[str, pd.DataFrame]:
    place = Store(store)
    return {cell: read_rows(place.files(cell)) for cell in place.cells()}


def same(a: dict[str, pd.DataFrame], b: dict[str, pd.DataFrame]) -> bool:
    assert a.keys() == b.keys()
    for cell in a:
        pd.testing.assert_frame_equal(a[cell], b[cell], check_exact=True)
    return True


@pytest.mark.parametrize("model", [SMALL, LARGE], ids=["32px", "224px"])
def test_growing_a_limit_gives_the_records_of_one_run(suite: Suite, tmp_path: Path, model: str) -> None:
    runner.run(suite, [model], store=tmp_path / "once", limit=19)
    for limit in (3, 11, 19):
        runner.run(suite, [model], store=tmp_path / "grown", limit=limit)
    assert same(tables(tmp_path / "once"), tables(tmp_path / "grown"))


@pytest.mark.parametrize("model", [SMALL, LARGE], ids=["32px", "224px"])
def test_workers_and_the_order_of_tasks_change_nothing(suite: Suite, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.run(suite, [model], store=tmp_path / "plain", limit=19)
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "cache"))
    forward = local.run_tasks
    monkeypatch.setattr(local, "run_tasks", lambda tasks, *rest: forward(random.Random(7).sample(list(tasks), len(tasks)), *rest))
    runner.run(suite, [model], store=tmp_path / "other", limit=19, workers=2)
    assert same(tables(tmp_path / "plain"), tables(tmp_path / "other"))


def test_runs_that_are_stopped_by_their_budget_come_to_the_records_of_one_run(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run(suite, [SMALL], store=tmp_path / "once", limit=19)
    monkeypatch.setattr(runner, "Deadline", lambda budget: Deadline(budget, itertools.count().__next__))
    runs = [runner.run(suite, [SMALL], store=tmp_path / "often", limit=19, budget=3) for _ in range(4)]
    assert [(done.computed, done.complete, done.stopped) for done in runs] == [(38, 2, True), (38, 4, True), (38, 6, False), (0, 6, False)]
    assert same(tables(tmp_path / "once"), tables(tmp_path / "often"))
    assert Store(tmp_path / "often").manifests()[0].finished


def test_a_budget_that_is_spent_before_work_begins_still_gets_one_piece_done(suite: Suite, tmp_path: Path) -> None:
    done = runner.run(suite, [SMALL], store=tmp_path / "s", limit=3, budget=1e-9)
    assert (done.computed, done.complete, done.stopped) == (3, 1, True)


def test_another_tile_size_agrees_to_rounding(suite: Suite, tmp_path: Path) -> None:
    """At 224 px in float32: logits, and with them nll and margin, within 2e-5; attacks may take another path and are left out."""
    runner.run(suite, [LARGE], store=tmp_path / "a", limit=9, batch_size=16)
    runner.run(suite, [LARGE], store=tmp_path / "b", limit=9, batch_size=5)
    first, second = tables(tmp_path / "a"), tables(tmp_path / "b")
    compared = 0
    for cell, frame in first.items():
        if "attacked" in frame:
            continue
        for name in ("nll", "margin", "confidence", "brier"):
            assert float((frame[name] - second[cell][name]).abs().max()) <= 2e-5
        compared += 1
    assert compared == 5


def test_a_second_run_computes_nothing(suite: Suite, tmp_path: Path) -> None:
    first = runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.parquet")}
    second = runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    assert (first.computed, second.computed) == (42, 0)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.parquet")}


def test_logits_are_kept_from_the_start_or_refused(suite: Suite, tmp_path: Path) -> None:
    runner.run(suite, [SMALL], store=tmp_path / "kept", limit=7, keep=("logits",))
    assert runner.run(suite, [SMALL], store=tmp_path / "kept", limit=7, keep=("logits",)).computed == 0
    assert all(frame["logits"].map(len).eq(10).all() for frame in tables(tmp_path / "kept").values())
    runner.run(suite, [SMALL], store=tmp_path / "bare", limit=7)
    with pytest.raises(UsageError, match="without their logits"):
        runner.run(suite, [SMALL], store=tmp_path / "bare", limit=7, keep=("logits",))


def test_logits_are_kept_of_what_predicts_and_a_second_run_reads_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(TEXT.replace("- fog: {severity: 3}", "- gaussian: {sigma: 0.25, selection: 2, samples: 4}"))
    suite = read_suite(tmp_path / "c.yaml", "c.yaml")
    first = runner.run(suite, [SMALL], store=tmp_path / "s", limit=3, keep=("logits",))
    inner = RecordsFile.read

    def read(file: RecordsFile, columns: Sequence[str] | None = None) -> pa.Table:
        assert columns is not None
        assert "logits" not in columns
        return inner(file, columns)

    monkeypatch.setattr(RecordsFile, "read", read)
    second = runner.run(suite, [SMALL], store=tmp_path / "s", limit=3, keep=("logits",))
    assert (first.failed, second.computed, second.complete) == ({}, 0, 6)


def test_a_gallery_is_there_before_its_rows(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two, a run makes both again."""
    write = Store.write

    def killed(store: Store, cell: str, *given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    place = Store(tmp_path / "s")
    assert sum(len(place.gallery(cell)) > 0 for cell in place.cells()) == 1
    monkeypatch.setattr(Store, "write", write)
    runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    assert all(len(place.gallery(cell)) == 4 for cell in place.cells())


def test_whatever_is_damaged_in_a_store_a_run_makes_anew(suite: Suite, tmp_path: Path) -> None:
    """What the board tells of, the same command mends: pieces, descriptions, galleries, failures and manifests."""
    runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    before, board = tables(tmp_path / "s"), rv.leaderboard(tmp_path / "s")
    place = Store(tmp_path / "s")
    cells = place.cells()
    places = [place.path / "cells" / cell for cell in cells]
    victims = [
        place.files(cells[0])[0].path, places[1] / "cell.json", next(places[2].glob("gallery*")), *(place.path / "runs").iterdir()
    ]  # fmt: skip
    for path in victims:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    done = runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    assert {path.stem for path in done.repaired} >= {path.stem for path in victims[:3]}
    assert same(before, tables(tmp_path / "s"))
    same_but = [name for name in board if name not in ("seconds", "repro")]
    pd.testing.assert_frame_equal(rv.leaderboard(tmp_path / "s")[same_but], board[same_but])


def test_a_truncated_piece_is_set_aside_and_computed_anew(suite: Suite, tmp_path: Path) -> None:
    runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    before = tables(tmp_path / "s")
    victim = next(Store(tmp_path / "s").files(cell)[0].path for cell in before)
    victim.write_bytes(victim.read_bytes()[:100])
    done = runner.run(suite, [SMALL], store=tmp_path / "s", limit=7)
    assert done.computed == 7
    assert done.repaired == [victim.with_suffix(".damaged")]
    assert same(before, tables(tmp_path / "s"))


def test_models_leave_a_run_as_they_came(suite: Suite, tmp_path: Path) -> None:
    model = rv.load_model(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runner.run(suite, [model], store=tmp_path / "s", limit=7)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def command(suite: Path, store: Path, cache: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "robustvit", "run", "-m", SMALL, "--suite", str(suite), "--store", str(store), "-L", "500"]
    return subprocess.Popen(
        words, env={**os.environ, "ROBUSTVIT_CACHE": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.long
@pytest.mark.slow
def test_killed_at_random_moments_it_resumes_to_the_same_table(suite: Suite, tmp_path: Path) -> None:
    page = tmp_path / "law.yaml"
    began = time.monotonic()
    assert command(page, tmp_path / "whole", tmp_path / "cache").wait() == 0
    length = time.monotonic() - began
    moments = random.Random(0)
    for _ in range(3):
        process = command(page, tmp_path / "killed", tmp_path / "cache2")
        time.sleep(moments.uniform(0.3, 0.95) * length)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert command(page, tmp_path / "killed", tmp_path / "cache2").wait() == 0
    assert same(tables(tmp_path / "whole"), tables(tmp_path / "killed"))


@pytest.mark.slow
def test_two_processes_on_one_store_compute_each_shard_once(suite: Suite, tmp_path: Path) -> None:
    page = tmp_path / "law.yaml"
    both = [command(page, tmp_path / "shared", tmp_path / "cache") for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    place = Store(tmp_path / "shared")
    assert [len(place.files(cell)) for cell in place.cells()] == [1] * 6
    assert not list((tmp_path / "shared").rglob("*.lock"))
    computed = sum(int(line.split()[0].replace(",", "")) for text in told for line in text.splitlines() if "rows computed" in line)
    assert computed == 6 * 500
