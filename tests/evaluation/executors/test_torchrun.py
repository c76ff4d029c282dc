"""A run that torchrun starts in several processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import robustvit as rv
from robustvit.errors import BadParameter, UsageError
from robustvit.evaluation.executors.shares import Share
from robustvit.evaluation.executors.torchrun import torchrun_share
from robustvit.evaluation.settings import Settings
from robustvit.records.store import Store

Same = Callable[[Path, Path], bool]


def test_two_ranks_compute_what_one_process_computes_and_the_first_tells(
    suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same
) -> None:
    words = ["run", "--suite", str(suite_file), "--store", str(tmp_path / "s"), "--limit", "8", "--executor", "torchrun"]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "robustvit", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [one.communicate(timeout=240) for one in ranks]
    assert [one.returncode for one in ranks] == [0, 0], told
    assert b"Report:" in told[0][0]
    assert told[1][0] == b""
    assert same_rows(alone, tmp_path / "s")
    (manifest,) = Store(tmp_path / "s").manifests()
    assert manifest.finished


def test_a_run_whose_rows_others_computed_has_finished_all_the_same(suite_file: Path, alone: Path, tmp_path: Path) -> None:
    """As where a rank that starts late finds nothing left to compute, or a process was killed after its last row."""
    store = Store(shutil.copytree(alone, tmp_path / "s"))
    (manifest,) = store.manifests()
    store.write_manifest(replace(manifest, finished=""))
    assert rv.run(suite_file, ["demo"], store=store.path, limit=8, progress=False).computed == 0
    assert Store(store.path).manifests()[0].finished


def test_the_share_is_the_rank_with_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    share, settings = torchrun_share(Settings(executor="torchrun", device="cuda"), 7.0)
    assert share == Share(5, 8, 7.0)
    assert settings.device == "cuda:1"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert torchrun_share(Settings(executor="torchrun"), 7.0)[1].device == "cpu"
    with pytest.raises(BadParameter, match="takes a GPU of its own"):
        torchrun_share(Settings(executor="torchrun", device="cuda:3"), 7.0)
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(UsageError, match="RANK is 8; WORLD_SIZE is 8, so it takes 0 to 7"):
        torchrun_share(Settings(executor="torchrun"), 7.0)


def test_without_torchrun_one_line_says_how_to_start_it(suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"RANK, WORLD_SIZE, LOCAL_RANK are not set\. Start it with torchrun: torchrun --nproc-per-node 2"):
        rv.run(suite_file, ["demo"], store=tmp_path / "s", executor="torchrun", progress=False)
