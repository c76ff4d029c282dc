"""Stores in object storage: mirrored whole, written to first, leased under conditions, and none of the service's faults read as rows."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from object_server import BUCKET, ObjectServer, object_server

import robustvit as rv
from robustvit.errors import BadParameter, MissingExtra, StoreError, UsageError
from robustvit.records.disk import content_digest
from robustvit.records.records import read, table
from robustvit.records.remote import mirror, object_place, remote_leases
from robustvit.records.remote.mirrored import MIRRORS
from robustvit.records.remote.object_place import ObjectPlace, place_name, url_of
from robustvit.records.remote.remote_leases import EXPIRY, remote_lease
from robustvit.records.sharing.failures import failed_since, store_clock
from robustvit.records.status.store_status import status
from robustvit.records.store import Store
from robustvit.report.live.live_view import LiveView
from robustvit.results.leaderboard import leaderboard
from robustvit.spec.spec import digest

pytest.importorskip("obstore")
Make = Callable[..., Store]
Columns = Callable[..., dict[str, Any]]
URL = f"s3://{BUCKET}/some/store"
DESCRIPTION = {"scenario": "made", "number": 1}
CELL = digest(DESCRIPTION)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Few retries, and no mirror of an earlier test."""
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(object_place, "_RETRIES", 6)
    known = dict(MIRRORS)
    MIRRORS.clear()
    yield
    MIRRORS.clear()
    MIRRORS.update(known)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with object_server() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def rows(count: int, first: int = 0) -> pa.Table:
    return table({
        "sample": [f"s{at:04}" for at in range(first, first + count)], "label": [0] * count, "pred": [at % 2 for at in range(count)],
    })  # fmt: skip


def write(store: Store, start: int, count: int) -> None:
    store.declare(CELL, DESCRIPTION)
    store.write(CELL, 0, start, rows(count, start), {"seconds": 1.0, "environment": "e"})


def another_machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """From here on stores are opened as by a process of another machine, with nothing mirrored yet."""
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(cache))
    MIRRORS.clear()


def test_what_is_written_on_one_machine_is_read_on_another(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Store(URL, create=True)
    write(here, 0, 5)
    here.fail(CELL, "it broke")
    another_machine(monkeypatch, tmp_path / "other")
    there = Store(Path(URL))  # a path has one slash less
    assert there.path != here.path
    assert read(there.files(CELL)).equals(read(here.files(CELL)))
    assert there.describe(CELL) == DESCRIPTION
    assert there.failure(CELL) == "it broke"
    monkeypatch.setattr(mirror, "_RECENT", -5.0)
    there.succeed(CELL)
    write(there, 5, 3)
    assert here.reached(CELL, 0) == 5
    here.mirror.update(f"cells/{CELL}/")  # type: ignore[union-attr]
    assert here.reached(CELL, 0) == 8
    assert here.failure(CELL) is None
    assert {name.rpartition("/")[0] for name in server.objects} == {"some/store", f"some/store/cells/{CELL}"}


def test_a_leaderboard_of_objects_is_that_of_files(server: ObjectServer, make_store: Make, answered: Columns, tmp_path: Path) -> None:
    local = make_store({(m, "fog", level): answered([True, False, True]) for m in "ab" for level in "12"})
    for path in local.path.rglob("*"):
        if path.is_file() and path.name != "verified.json":
            server.objects[f"some/store/{path.relative_to(local.path)}"] = (
                (content := path.read_bytes()),
                f'"{content_digest(content)}"',
                1e9,
            )
    pd.testing.assert_frame_equal(leaderboard(URL), leaderboard(local), check_exact=True)


def test_status_and_view_follow_a_store_that_others_write(server: ObjectServer, make_store: Make, answered: Columns) -> None:
    def upload(path: Path, root: Path) -> None:
        server.objects[f"some/store/{path.relative_to(root)}"] = (
            (content := path.read_bytes()),
            f'"{content_digest(content)}"',
            server.now(),
        )

    local = make_store({("a", "fog", level): answered([True, False, True]) for level in "12"})
    files = [path for path in sorted(local.path.rglob("*")) if path.is_file() and path.name != "verified.json"]
    late = [path for path in files if path.suffix == ".parquet"][-1]
    for path in files:
        if path != late:
            upload(path, local.path)
    view = LiveView(Path(URL))
    assert (status(URL).complete, status(URL).cells) == (1, 2)
    assert "1 of 2" in view.page("/x").html
    upload(late, local.path)
    assert status(URL).state == "complete"
    assert "2 of 2" in view.page("/x").html
    server.denied = "ExpiredToken"
    assert "the credentials have expired" in view.page("/x").html


def test_an_idle_look_is_one_request_and_downloads_nothing(server: ObjectServer) -> None:
    store = Store(URL, create=True)
    write(store, 0, 5)
    server.requests.clear()
    Store(URL)
    assert server.requests == [("GET", "")]


def test_objects_that_are_no_files_of_a_store_are_left_there(server: ObjectServer, tmp_path: Path) -> None:
    store = Store(URL, create=True)
    for name in ("notes.txt", "cells/.hidden", "verified.json", "leases/x.lock", "other/store.json"):
        server.objects[f"some/store/{name}"] = b"foreign", '"x"', 1e9
    Store(URL)
    found = [path.relative_to(store.path).as_posix() for path in store.path.rglob("*") if path.is_file()]
    assert found == ["store.json"]
    server.objects["some/store/../out"] = b"foreign", '"x"', 1e9
    with pytest.raises(StoreError, match=r"^cannot list .*\.\./out"):
        Store(URL)
    assert not list(tmp_path.rglob("out"))


def test_a_removed_object_is_gone_and_a_deleted_mirror_comes_back(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(URL, create=True)
    write(store, 0, 5)
    write(store, 5, 2)
    (gone,) = [name for name in server.objects if "000000-005-007" in name]
    del server.objects[gone]
    assert Store(URL).reached(CELL, 0) == 7  # as young as if another process had written it after the list
    monkeypatch.setattr(mirror, "_RECENT", -5.0)
    assert Store(URL).reached(CELL, 0) == 5
    for path in store.path.rglob("*.parquet"):
        path.unlink()
    assert Store(URL).reached(CELL, 0) == 5


def test_a_truncated_object_is_set_aside_there_too(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Store(URL, create=True), 0, 5)
    (name,) = [name for name in server.objects if name.endswith(".parquet")]
    content, _, written = server.objects[name]
    server.objects[name] = content[:-10], '"short"', written
    another_machine(monkeypatch, tmp_path / "other")
    store = Store(URL)
    (aside,) = store.set_aside(CELL)
    assert aside.suffix == ".damaged"
    assert name not in server.objects
    assert any(one.endswith(".damaged") for one in server.objects)
    assert store.reached(CELL, 0) == 0


@pytest.mark.parametrize("fault", [{"errors": 0.3}, {"short": 0.3}, {"slow": 0.05}])
def test_what_a_service_does_wrong_is_tried_again(
    server: ObjectServer, fault: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fault.items():
        setattr(server, name, value)
    store = Store(URL, create=True)
    for start in range(0, 12, 4):
        with store.lease(CELL, 0) as mine:
            assert mine
            write(store, start, 4)
    another_machine(monkeypatch, tmp_path / "other")
    assert read(Store(URL).files(CELL))["sample"].tolist() == [f"s{at:04}" for at in range(12)]
    assert not [name for name in server.objects if name.endswith(".lock")]


def test_what_comes_short_is_read_again_and_never_kept(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Store(URL, create=True), 0, 5)
    whole, reads = ObjectPlace.read, {"short": 2}

    def read_short(place: ObjectPlace, name: str) -> bytes | None:
        content = whole(place, name)
        if name.endswith(".parquet") and content is not None and reads["short"] > 0:
            reads["short"] -= 1
            return content[:-1]
        return content

    monkeypatch.setattr(ObjectPlace, "read", read_short)
    another_machine(monkeypatch, tmp_path / "other")
    assert Store(URL).damaged(CELL) == []
    reads["short"] = 3
    another_machine(monkeypatch, tmp_path / "third")
    with pytest.raises(StoreError, match=r"ends early, 3 times: it has \d+ bytes"):
        Store(URL)
    assert not list((tmp_path / "third").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDenied", "the credentials do not allow it"),
        ("ExpiredToken", "the credentials have expired"),
        ("InvalidAccessKeyId", "does not know the access key"),
        ("SignatureDoesNotMatch", "the secret key does not belong"),
    ],
)
def test_what_is_refused_is_told_in_one_line_without_secrets(
    server: ObjectServer, code: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.denied = code
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError, match=rf"^cannot list at {URL}: .*{said}") as raised:
        Store(URL, create=True)
    told = str(raised.value) + caplog.text
    assert "\n" not in str(raised.value)
    assert "not-a-secret" not in told
    assert "Signature=" not in told


def test_errors_name_no_address(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_place, "_RETRIES", 1)
    monkeypatch.setattr(object_place, "_TRIES", 1)
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(
            StoreError, match=rf"^cannot list at {URL}: .*\. The same command goes on once the service answers\.$"
        ) as raised:
            Store(URL)
    assert "127.0.0.1" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_credentials_that_is_said(server: ObjectServer) -> None:
    import obstore

    place = ObjectPlace(URL)
    with (
        pytest.raises(StoreError, match=rf"^cannot list at {URL}: there are no credentials\. Set those of the service"),
        place._told("list"),
    ):
        raise obstore.exceptions.GenericError("Error performing PUT http://169.254.169.254/latest/api/token in 2 ms")


def test_a_bucket_that_is_not_there(server: ObjectServer) -> None:
    with pytest.raises(StoreError, match=r"^cannot list at s3://nowhere/x: the bucket is not there\. Make it first"):
        Store("s3://nowhere/x", create=True)
    with pytest.raises(StoreError, match="there is no store"):
        Store(f"s3://{BUCKET}/nothing")
    assert not Store.is_at(f"s3://{BUCKET}/nothing")


def test_a_write_that_fails_leaves_no_row_here(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(URL, create=True)
    store.declare(CELL, DESCRIPTION)
    server.denied = "AccessDenied"
    with pytest.raises(StoreError, match="cannot write"):
        write(store, 0, 5)
    assert store.reached(CELL, 0) == 0


def test_of_several_who_want_a_lease_one_has_it(server: ObjectServer) -> None:
    places = [ObjectPlace(URL) for _ in range(8)]
    for trial in range(20):
        held, together = [], threading.Barrier(8)

        def take(place: ObjectPlace, name: str = f"leases/{trial}.lock", held: list[bool] = held, together: Any = together) -> None:
            with remote_lease(place, name) as mine:
                held.append(mine)
                together.wait()

        threads = [threading.Thread(target=take, args=(place,)) for place in places]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert sum(held) == 1
    assert not server.objects


def test_a_lease_of_a_killed_process_expires_by_the_clock_of_the_service(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name = ObjectPlace(URL), "leases/x.lock"
    place.create(name, b"of a process that was killed")
    looks = iter(range(0, 10_000, 100))
    monkeypatch.setattr(remote_leases.time, "monotonic", lambda: float(next(looks)))  # each look is late enough to look again
    with remote_lease(place, name) as mine:
        assert not mine
    monkeypatch.setattr("time.time", lambda: 0.0)  # the clock of this machine does not count
    server.now = lambda: 1_000_000_000.0  # type: ignore[method-assign]
    place.write(name, b"again")
    server.now = lambda: 1_000_000_000.0 + EXPIRY - 1  # type: ignore[method-assign]
    with remote_lease(place, name) as mine:
        assert not mine
    server.now = lambda: 1_000_000_000.0 + EXPIRY + 1  # type: ignore[method-assign]
    with remote_lease(place, name) as mine:
        assert mine
        with remote_lease(place, name) as other:
            assert not other
    assert place.facts(name) is None


def test_a_lease_is_renewed_while_it_is_held_and_one_that_was_taken_over_is_not_removed(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_leases, "_RENEWAL", 0.05)
    place, name = ObjectPlace(URL), "leases/x.lock"
    with remote_lease(place, name) as mine:
        assert mine
        tags = set()
        while len(tags) < 3:
            tags.add(place.facts(name).tag)  # type: ignore[union-attr]
        place.write(name, b"of another, who thought it old")
    assert place.read(name) == b"of another, who thought it old"


def test_failures_and_files_have_the_time_of_the_service(server: ObjectServer) -> None:
    server.ahead = 5000.0
    store = Store(URL, create=True)
    since = store_clock(store)
    store.fail(CELL, "it broke")
    assert failed_since(store, CELL, since - 2) == "it broke"
    assert failed_since(store, CELL, since + 60) is None
    assert not [name for name in server.objects if "clock" in name]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://b/x/", "s3://b/x"),
        (Path("gs://b/x"), "gs://b/x"),
        ("az://account/c/x", "az://account/c/x"),
        ("S3://b/x", "s3://b/x"),
        ("abfss://container@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net/x"),
        *((other, None) for other in ("results", "/s3:/x", Path("s3"), "./http:/x", "c:/x", "results:2", "a b:/x", 3)),
    ],
)
def test_which_places_are_urls(given: object, url: str | None) -> None:
    assert url_of(given) == url
    assert place_name(given) == (url or str(given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gcs://b/x", r"gcs:// is no kind of place for Records\. Did you mean 'gs'\? There are s3://, gs:// and az://, and folders"),
        (Path("http://b/x"), r"http:// is no kind of place .* write \./http:… for a folder of that name"),
        ("file:///x", "file:// is no kind of place"),
        ("s3://", "s3:// names no bucket: write s3://BUCKET/FOLDER"),
        (Path("gs://"), "gs:// names no bucket"),
        ("s3:///x", "s3:// names no bucket"),
        ("s3://b/x?token=hush", "s3:// takes no parameters, such as tokens"),
        ("s3://AKIAU:hush@b/x", "s3://… has credentials in it, and a URL is kept with the rows"),
    ],
)
def test_other_urls_are_refused_and_secrets_in_them_not_repeated(given: str | Path, message: str) -> None:
    for use in (url_of, Store, Store.is_at, lambda place: rv.run("quick", ["demo"], store=place)):
        with pytest.raises(BadParameter, match=message) as told:
            use(given)
        assert "hush" not in str(told.value)


def test_without_obstore_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"pip install 'robustvit\[remote\]'"):
        Store(URL)


def test_a_place_that_no_service_has_is_refused(server: ObjectServer) -> None:
    with pytest.raises((UsageError, StoreError), match="az://"):
        Store("az://x")
