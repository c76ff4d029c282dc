import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from dataclasses import replace

import pytest
from layouts import _encoded

from robustvit.cli.commands.fetching import pending_of
from robustvit.errors import DataError, DataMissing, DataUnreadable
from robustvit.evaluation.downloads.download import fetch_pending
from robustvit.evaluation.downloads.pending import open_fetched, pending
from robustvit.evaluation.downloads.placing import placed_downloads
from robustvit.spec import registry

IMAGE = _encoded(1, "JPEG", (48, 40))


def packed(paths, mode="w:gz", links=()):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:
        for path in paths:
            info = tarfile.TarInfo(path)
            info.size = len(IMAGE)
            tar.addfile(info, io.BytesIO(IMAGE))
        for path in links:
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return sink.getvalue()


def folder_set(*downloads):
    """A data set of class folders, without a number of images that it must have."""
    return replace(registry.lookup("data", "folder"), name="folder", downloads=downloads)


@pytest.fixture
def body():
    return packed([f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(3)])


def fetch(entry, place, **about):
    one = pending(entry, {}, place, None)
    fetch_pending(one, **about)
    return one


def held(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def test_a_set_is_fetched_verified_unpacked_and_opened(server, tmp_path, body):
    url = server.serve("/pets.tar.gz", body)
    entry = folder_set({"url": url, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()})
    one = fetch(entry, tmp_path / "pets")
    assert len(open_fetched(one)) == 6
    (about,) = placed_downloads(tmp_path / "pets").values()
    assert about == {"file": "pets.tar.gz", "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert sorted(os.listdir(tmp_path)) == [".robustvit-downloads", "pets"]
    assert os.listdir(tmp_path / ".robustvit-downloads") == ["pets.lock"]


def test_a_set_that_is_there_is_not_fetched_again(server, tmp_path, body):
    entry = folder_set({"url": server.serve("/pets.tar.gz", body)})
    fetch(entry, tmp_path / "pets")
    count = len(server.requests)
    assert fetch(entry, tmp_path / "pets").lacking == ()
    (tmp_path / "pets" / ".robustvit-download.json").unlink()  # as if it had been unpacked by hand
    assert fetch(entry, tmp_path / "pets").lacking == ()
    assert len(server.requests) == count


def test_a_corrupt_file_is_deleted_and_nothing_is_unpacked(server, tmp_path, body):
    digits = hashlib.md5(body).hexdigest()
    spoilt = body[:100] + b"x" + body[101:]
    entry = folder_set({"url": server.serve("/pets.tar.gz", spoilt), "md5": digits, "source": "a paper"})
    with pytest.raises(DataError, match=rf"the md5 of what arrived is \w+, and {digits} is published \(a paper\)\. It was deleted"):
        fetch(entry, tmp_path / "pets")
    assert not (tmp_path / "pets").exists()
    assert not list(tmp_path.rglob("*.part"))
    server.serve("/pets.tar.gz", body)
    fetch(entry, tmp_path / "pets")
    assert len(held(tmp_path / "pets")) == 6


def test_where_no_checksum_is_published_the_sha256_is_told(server, tmp_path, body):
    told = []
    fetch(folder_set({"url": server.serve("/pets.tar.gz", body)}), tmp_path / "pets", notify=told.append)
    assert told == [f"pets.tar.gz: no checksum is published; the sha256 of what arrived is {hashlib.sha256(body).hexdigest()}."]


def test_an_archive_with_a_link_leaves_no_set(server, tmp_path):
    bad = packed(["cat/1.jpg", "dog/1.jpg"], links=["dog/2.jpg"])
    with pytest.raises(DataUnreadable, match=r"'dog/2\.jpg' is a link"):
        fetch(folder_set({"url": server.serve("/pets.tar.gz", bad)}), tmp_path / "pets")
    assert not (tmp_path / "pets").exists()


def test_a_damaged_archive_leaves_no_set(server, tmp_path, body):
    with pytest.raises(DataUnreadable, match="damaged"):
        fetch(folder_set({"url": server.serve("/pets.tar.gz", body[:-40])}), tmp_path / "pets")
    assert not (tmp_path / "pets").exists()


def test_several_files_come_into_one_folder_and_what_is_there_stays(server, tmp_path):
    first, second = (server.serve(f"/{name}.tar", packed([f"{name}/{i}.jpg" for i in range(2)], "w")) for name in ("cat", "dog"))
    fetch(folder_set({"url": first}), tmp_path / "pets")
    (tmp_path / "pets/cat/mine.jpg").write_bytes(IMAGE)
    fetch(folder_set({"url": first}, {"url": second, "into": "more"}), tmp_path / "pets")
    assert held(tmp_path / "pets") == ["cat/0.jpg", "cat/1.jpg", "cat/mine.jpg", "more/dog/0.jpg", "more/dog/1.jpg"]
    assert len(placed_downloads(tmp_path / "pets")) == 2


def test_a_file_of_somebody_else_is_not_replaced(server, tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets/cat").write_text("mine")
    with pytest.raises(DataError, match="pets/cat is already there and is not of this download"):
        fetch(folder_set({"url": server.serve("/cat.tar", packed(["cat/1.jpg"], "w"))}), tmp_path / "pets")
    assert (tmp_path / "pets/cat").read_text() == "mine"


def test_too_little_room_is_said_first(server, tmp_path, body, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9})())
    entry = folder_set({"url": server.serve("/pets.tar.gz", body), "size": 10**9})
    with pytest.raises(DataError, match=r"has 1\.0 GB free; 2\.0 GB are needed to fetch and unpack"):
        fetch(entry, tmp_path / "pets")
    assert not server.requests


def test_a_record_is_fetched_by_the_list_of_its_server(server, tmp_path):
    bodies = {name: packed([f"{name}/1.jpg"], "w") for name in ("cat", "dog")}
    listing = [{"key": f"{n}.tar", "size": len(b), "checksum": f"md5:{hashlib.md5(b).hexdigest()}"} for n, b in bodies.items()]
    server.serve("/api/records/17", json.dumps({"files": listing}).encode())
    for name, one in bodies.items():
        server.serve(f"/records/17/files/{name}.tar", one)
    entry = folder_set({"url": server.base + "/records/17"})
    fetch(entry, tmp_path / "pets")
    assert held(tmp_path / "pets") == ["cat/1.jpg", "dog/1.jpg"]
    assert fetch(entry, tmp_path / "pets").lacking == ()
    server.serve("/records/17/files/dog.tar", bodies["cat"])
    with pytest.raises(DataError, match=r"md5 of what arrived .* \(http.*/records/17\)"):
        fetch(entry, tmp_path / "again")
    assert held(tmp_path / "again") == ["cat/1.jpg"]  # each file is whole or not there


def test_a_set_that_is_there_in_part_is_left_alone(server, tmp_path, monkeypatch):
    entry = replace(registry.lookup("data", "imagenette"), downloads=({"url": server.base + "/x.tar"},))
    monkeypatch.setattr(registry, "lookup", lambda kind, name: entry)
    from robustvit.data.imagenette import _IMAGENETTE

    for wnid in _IMAGENETTE:
        (tmp_path / "imagenette/val" / wnid).mkdir(parents=True)
        (tmp_path / "imagenette/val" / wnid / "1.JPEG").write_bytes(IMAGE)
    with pytest.raises(DataMissing, match=r"holds 10 of 3,925 images, which were not downloaded by robustvit\. Move them away"):
        pending_of("imagenette", tmp_path)


def test_a_set_that_is_not_fetched_says_where_and_how():
    with pytest.raises(DataMissing, match=r"'objectnet' is not fetched by robustvit\. Unpack objectnet.*See https://objectnet.dev\.$"):
        pending_of("objectnet", None)


FETCHER = """
import sys
from dataclasses import replace
from pathlib import Path
from robustvit.evaluation.downloads import download, http_file
from robustvit.evaluation.downloads.pending import pending
from robustvit.spec import registry
entry = replace(registry.lookup("data", "folder"), downloads=({{"url": {url!r}, "md5": {md5!r}}},))
one = pending(entry, {{}}, Path({place!r}), None)
print("begins", flush=True)
download.fetch_pending(one, notify=lambda text: print(text, flush=True))
print("done", flush=True)
"""


def other(url, body, place):
    code = textwrap.dedent(FETCHER).format(url=url, md5=hashlib.md5(body).hexdigest(), place=str(place))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_killed_process_is_continued_by_the_next(server, tmp_path):
    body = packed([f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(3)], "w")
    url = server.serve("/pets.tar", body, "slow 4000")
    process = other(url, body, tmp_path / "pets")
    part = tmp_path / ".robustvit-downloads/pets/pets.tar.part"
    until(lambda: len(server.requests) == 1 and part.is_file())
    process.send_signal(signal.SIGKILL)
    process.wait()
    part.write_bytes(body[:3000])  # what a block that is not full yet would have left
    assert not (tmp_path / "pets").exists()
    fetch(folder_set({"url": url, "md5": hashlib.md5(body).hexdigest()}), tmp_path / "pets")
    assert server.requests[-1] == ("/pets.tar", "bytes=3000-")
    assert len(held(tmp_path / "pets")) == 6


def test_two_processes_at_once_fetch_a_set_once(server, tmp_path, body):
    url = server.serve("/pets.tar.gz", body, "slow 100")
    first = other(url, body, tmp_path / "pets")
    until(lambda: server.requests)
    told, entry = [], folder_set({"url": url, "md5": hashlib.md5(body).hexdigest()})

    def wait(text):
        told.append(text)
        server.released.set()

    fetch(entry, tmp_path / "pets", notify=wait)
    assert first.communicate(timeout=60)[0].split() == ["begins", "done"]
    assert told == ["Another process fetches pets; waiting for it."]
    assert len(server.requests) == 1
    assert len(held(tmp_path / "pets")) == 6


def test_a_process_killed_while_it_moves_files_is_continued(server, tmp_path, monkeypatch):
    first, second = (server.serve(f"/{name}.tar", packed([f"all/{name}/{i}.jpg" for i in range(2)], "w")) for name in ("cat", "dog"))
    fetch(folder_set({"url": first}), tmp_path / "pets")
    moved = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(KeyboardInterrupt) if "dog" in str(a) else moved(a, b))
    both = folder_set({"url": first}, {"url": second})
    with pytest.raises(KeyboardInterrupt):
        fetch(both, tmp_path / "pets")
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "pets/all/dog").mkdir()
    (tmp_path / "pets/all/dog/0.jpg").write_bytes(b"half moved")
    fetch(both, tmp_path / "pets")
    assert (tmp_path / "pets/all/dog/0.jpg").read_bytes() == IMAGE
    assert len(held(tmp_path / "pets")) == 4


def test_threads_of_one_process_do_not_fetch_twice_either(server, tmp_path, body):
    entry = folder_set({"url": server.serve("/pets.tar.gz", body)})
    one = pending(entry, {}, tmp_path / "pets", None)
    brought = []
    threads = [threading.Thread(target=lambda: brought.append(fetch_pending(one))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(brought) == [0, 0, 0, 1]
    assert len(server.requests) == 1


def test_a_repository_of_the_hub_is_left_to_its_client_and_comes_without_its_notes(tmp_path, monkeypatch):
    asked = []

    def snapshot(name, *, repo_type, local_dir):
        asked.append((name, repo_type))
        for path in ("cat/1.jpg", "dog/1.jpg", ".cache/huggingface/cat.metadata"):
            (local_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / path).write_bytes(IMAGE)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    entry = folder_set({"url": "hf://datasets/someone/pets"})
    fetch(entry, tmp_path / "pets")
    assert asked == [("someone/pets", "dataset")]
    assert not (tmp_path / "pets/.cache").exists()
    assert fetch(entry, tmp_path / "pets").lacking == ()


def test_a_hub_that_gives_nothing_is_an_error_of_one_line(tmp_path, monkeypatch):
    def nothing(*_, **__):
        raise FileNotFoundError("no such repository\nand more lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing)
    with pytest.raises(DataError, match=r"hf://datasets/someone/pets: the hub does not give it: no such repository$"):
        fetch(folder_set({"url": "hf://datasets/someone/pets"}), tmp_path / "pets")
    assert not (tmp_path / "pets").exists()
