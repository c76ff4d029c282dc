import random
import urllib.request

import pytest

from robustvit.errors import DataError
from robustvit.evaluation.downloads import http_file
from robustvit.evaluation.downloads.http_file import fetch_file, fetch_json

BODY = random.Random(0).randbytes(300_000)


def fetched(part, url, **size):
    fetch_file(url, part, **size)
    return part.read_bytes()


def test_a_file_is_fetched_whole(server, tmp_path):
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY), size=len(BODY)) == BODY
    assert server.requests == [("/x", "")]


def test_a_cut_transfer_is_continued_where_it_ended(server, tmp_path):
    url = server.serve("/x", BODY, "cut 100000", "cut 50000")
    assert fetched(tmp_path / "x.part", url) == BODY
    assert server.requests == [("/x", ""), ("/x", "bytes=100000-"), ("/x", "bytes=150000-")]


def test_more_cuts_than_attempts_are_no_failure_while_bytes_arrive(server, tmp_path):
    url = server.serve("/x", BODY, "cut 30000", always=True)
    assert fetched(tmp_path / "x.part", url) == BODY
    assert len(server.requests) == 10


def test_what_an_earlier_process_left_is_not_fetched_again(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY[:200_000])
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY)) == BODY
    assert server.requests == [("/x", "bytes=200000-")]


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_whole_part_needs_no_bytes(server, tmp_path, size):
    (tmp_path / "x.part").write_bytes(BODY)
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY), size=size) == BODY
    assert len(server.requests) == (size is None)


def test_a_server_that_ignores_the_range_sends_all_anew(server, tmp_path):
    (tmp_path / "x.part").write_bytes(b"z" * 200_000)
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY, "ignore"), size=len(BODY)) == BODY


def test_a_part_longer_than_the_file_is_of_another_one(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY + b"more")
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY)) == BODY


def test_a_file_that_changed_between_two_attempts_is_fetched_anew(server, tmp_path):
    url = server.serve("/x", b"old" * 100_000, "cut 100000", "status 404")
    with pytest.raises(DataError, match="404"):
        fetch_file(url, tmp_path / "x.part")
    server.serve("/x", BODY)
    server.files["/x"].etag = '"two"'
    assert fetched(tmp_path / "x.part", url) == BODY


def test_redirects_keep_the_range(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY[:1000])
    server.serve("/there", BODY)
    assert fetched(tmp_path / "x.part", server.serve("/x", b"", "redirect /there")) == BODY
    assert server.requests[-1] == ("/there", "bytes=1000-")


@pytest.mark.parametrize("there", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_a_redirect_to_another_scheme_is_not_followed(server, tmp_path, there):
    with pytest.raises(DataError, match=r"Redirection|redirects"):
        fetch_file(server.serve("/x", b"", f"redirect {there}"), tmp_path / "x.part")
    assert not (tmp_path / "x.part").exists()


def test_a_redirect_from_an_encrypted_connection_to_one_that_is_not_is_refused():
    request = urllib.request.Request("https://one.example/x")
    with pytest.raises(DataError, match="not encrypted"):
        http_file._Redirects().redirect_request(request, None, 302, "Found", {}, "http://one.example/x")


def test_passing_refusals_are_asked_again_and_lasting_ones_are_not(server, tmp_path):
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY, "status 503", "status 500", "status 429")) == BODY
    with pytest.raises(DataError, match="/none: the server answers 404 Not Found; nothing can be fetched there"):
        fetch_file(server.base + "/none", tmp_path / "y.part")
    assert [path for path, _ in server.requests].count("/none") == 1


def test_a_server_that_never_answers_right_is_given_up_with_what_is_kept(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY[:1234])
    with pytest.raises(DataError, match=r"503 .*, 5 times in a row\. 1,234 bytes are kept: the same command continues"):
        fetch_file(server.serve("/x", BODY, "status 503", always=True), tmp_path / "x.part")
    assert len(server.requests) == 5


def test_a_file_of_another_size_than_published_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(DataError, match=r"offers 300,000 bytes; the file has 299,999"):
        fetch_file(server.serve("/x", BODY), tmp_path / "x.part", size=len(BODY) - 1)
    assert not (tmp_path / "x.part").exists()


def test_a_length_that_is_never_reached_ends_in_an_error(server, tmp_path):
    with pytest.raises(DataError, match="times in a row"):
        fetch_file(server.serve("/x", BODY, "length 300001", always=True), tmp_path / "x.part")


def test_a_server_that_does_not_tell_the_length_is_read_to_the_end(server, tmp_path):
    assert fetched(tmp_path / "x.part", server.serve("/x", BODY, "unmeasured")) == BODY


def test_bytes_of_another_range_are_refused(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY[:1000])
    with pytest.raises(DataError, match=r"asked for the bytes from 1,000, the server sends '1001-299999'"):
        fetch_file(server.serve("/x", BODY, "shifted"), tmp_path / "x.part")


def test_no_connection_is_an_error_of_one_line(tmp_path, monkeypatch, server):
    with pytest.raises(DataError, match="refused"):
        fetch_file("http://127.0.0.1:9/x", tmp_path / "x.part")


def test_a_mirror_has_the_files_under_host_and_path(server, tmp_path, monkeypatch):
    server.serve("/all/zenodo.org/records/1/files/x.tar", BODY)
    monkeypatch.setenv("ROBUSTVIT_MIRROR", server.base + "/all/")
    assert fetched(tmp_path / "x.part", "https://zenodo.org/records/1/files/x.tar") == BODY


def test_too_little_room_is_said_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DataError, match="less room than the 300,000 bytes"):
        fetch_file(server.serve("/x", BODY), tmp_path / "x.part")
    assert not (tmp_path / "x.part").exists()


def test_progress_counts_what_was_there_before(server, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY[:1000])
    seen = []
    fetch_file(server.serve("/x", BODY), tmp_path / "x.part", progress=lambda *args: seen.append(args))
    assert seen[-1] == (300_000, 300_000, "fetching x")


def test_a_list_that_is_no_json_is_an_error(server):
    assert fetch_json(server.serve("/good", b'{"files": []}')) == {"files": []}
    with pytest.raises(DataError, match="/bad"):
        fetch_json(server.serve("/bad", b"<html>"))
