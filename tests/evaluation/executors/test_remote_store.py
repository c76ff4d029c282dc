"""Runs into a store in object storage: the rows of a run into a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from object_server import BUCKET, object_server

import robustvit as rv
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard

pytest.importorskip("obstore")
Same = Callable[[Path, Path], bool]


@pytest.mark.processes
def test_two_processes_fill_a_place_in_object_storage_whose_answers_fail(
    suite_file: Path, alone: Path, tmp_path: Path, same_rows: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/runs/one"
    with object_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.errors = server.short = 0.1
        done = rv.run(suite_file, ["demo"], store=url, limit=8, processes=2, progress=False)
        assert done.computed == done.rows
        again = rv.run(suite_file, ["demo"], store=url, limit=8, processes=2, progress=False)
        assert again.computed == 0
        monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "another machine"))
        assert same_rows(alone, Store(url).path)
        columns = ["scenario", "severity", "metric", "value", "low", "high"]
        assert leaderboard(url)[columns].equals(leaderboard(alone)[columns])
        assert not [name for name in server.objects if "/leases/" in name]
