"""A store on another implementation of the S3 protocol, moto's, one request at a time: its threaded server looks before it locks."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import robustvit as rv
from robustvit.records.remote.mirrored import MIRRORS
from robustvit.records.remote.object_place import ObjectPlace
from robustvit.records.store import Store
from robustvit.results.leaderboard import leaderboard

pytest.importorskip("obstore")
moto = pytest.importorskip("moto.server")
URL = "s3://moto-bucket/runs"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    serving = pytest.importorskip("werkzeug.serving")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    given = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}
    for name, value in (given | {"AWS_DEFAULT_REGION": "us-east-1", "ROBUSTVIT_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    server = serving.make_server("127.0.0.1", 0, moto.DomainDispatcherApplication(moto.create_backend_app), threaded=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = urllib.request.Request(f"http://127.0.0.1:{server.port}/moto-bucket", method="PUT", headers={"Host": "s3.amazonaws.com"})
    urllib.request.urlopen(made, timeout=30).close()
    known = dict(MIRRORS)
    MIRRORS.clear()
    yield
    MIRRORS.clear()
    MIRRORS.update(known)
    server.shutdown()
    thread.join()


def test_of_eight_that_create_an_object_at_once_one_does_twenty_times_of_twenty(service: None) -> None:
    place = ObjectPlace(URL)
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            start = threading.Barrier(8)

            def create(mine: int, number: int = number, start: threading.Barrier = start) -> str | None:
                start.wait()
                return place.create(f"leases/{number}", f"{mine}".encode())

            tags = list(pool.map(create, range(8)))
            (winner,) = [mine for mine, tag in enumerate(tags) if tag is not None]
            assert place.read(f"leases/{number}") == f"{winner}".encode()
            assert place.exchange(f"leases/{number}", b"next", "another tag") is None
            assert place.exchange(f"leases/{number}", b"next", str(tags[winner])) is not None


def test_a_run_leaves_the_rows_of_a_run_into_a_folder(
    service: None, suite_file: Path, alone: Path, tmp_path: Path, same_rows: Callable[[Path, Path], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = rv.run(suite_file, ["demo"], store=URL, limit=8, progress=False)
    assert (done.computed, done.failed) == (done.rows, {})
    assert rv.run(suite_file, ["demo"], store=URL, limit=8, progress=False).computed == 0
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "another machine"))
    MIRRORS.clear()
    assert same_rows(alone, Store(URL).path)
    assert leaderboard(URL)["value"].equals(leaderboard(alone)["value"])
