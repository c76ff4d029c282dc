"""Who is answered: GET and HEAD of this machine, by the right name, on the secret path, and nobody else."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from robustvit.cli.serving.server import PageServer, served
from robustvit.errors import UsageError


class Fake(NamedTuple):
    """A page."""

    html: str
    policy: str = "default-src 'none'; x"
    there: bool = True


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    pages = {"": lambda base: Fake(f"<p>first at {base} é</p>"), "report": lambda _: Fake("whole"), "no": lambda _: Fake("no", there=False)}
    with served(pages) as made:
        yield made


class Answer(NamedTuple):
    """What came back."""

    code: int
    headers: dict[str, str]
    body: bytes


def asked(server: PageServer, path: str, *, method: str = "GET", **headers: str) -> Answer:
    line = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    line.putrequest(method, path, skip_host="host" in headers)
    for name, value in headers.items():
        line.putheader(name, value)
    line.endheaders()
    answer = line.getresponse()
    found = Answer(answer.status, dict(answer.getheaders()), answer.read())
    line.close()
    return found


def sent(server: PageServer, request: bytes) -> bytes:
    """What comes back for the bytes of a request; the server resets the connection where it leaves some of them unread."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as line, contextlib.suppress(ConnectionError):
        with contextlib.suppress(OSError):  # it is no longer connected
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
        while part := line.recv(65536):
            answer += part
    return answer


def test_the_pages_are_below_a_secret_path(server: PageServer) -> None:
    first = asked(server, f"{server.base}/")
    assert (first.code, first.body.decode()) == (200, f"<p>first at {server.base} é</p>")
    assert asked(server, server.base).body == first.body
    assert asked(server, f"{server.base}/report").body == b"whole"
    assert asked(server, f"{server.base}/no").code == 503
    assert server.url == f"http://127.0.0.1:{server.server_port}{server.base}/"
    assert len(server.base) > 30
    with served({}) as other:
        assert other.base != server.base


@pytest.mark.parametrize(
    "path",
    [
        "/", "//", "/report", "/favicon.ico", "/{cut}/", "/{token}x/", "/x{token}/", "/{upper}/", "/{token}/absent", "/{token}/report/",
        "/{token}/../{token}/", "/{token}/..", "/{token}//", "/{token}/?x", "/{token}?x", "/%2e%2e/etc/passwd", "/../../etc/passwd", "*",
        "/é/", "http://127.0.0.1/{token}/", "/{token}/report%00", "//{token}/report/..", "/" + "a" * 5000,
    ],
)  # fmt: skip
def test_any_other_path_is_not_found_and_not_echoed(server: PageServer, path: str) -> None:
    token = server.base[1:]
    path = path.format(token=token, cut=token[:-1], upper=token.swapcase())
    answer = sent(server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 404 " in head.splitlines()[0]
    assert body == b"404 Not Found\n"
    assert token.encode() not in answer


@pytest.mark.parametrize("headers", [("127.0.0.1:{port}",), ("localhost:{port}",), ("LocalHost:{port}",)])
def test_the_names_of_this_machine_are_answered(server: PageServer, headers: tuple[str, ...]) -> None:
    assert asked(server, f"{server.base}/", host=headers[0].format(port=server.server_port)).code == 200


@pytest.mark.parametrize(
    "hosts",
    [
        (), ("",), ("127.0.0.1",), ("localhost",), ("127.0.0.1:1",), ("evil.example:{port}",), ("127.0.0.1.evil.example:{port}",),
        ("localhost:{port}.evil.example",), ("[::1]:{port}",), ("0.0.0.0:{port}",), ("127.0.0.1:{port}, evil.example",),
        ("127.0.0.1:{port}", "evil.example"), ("127.0.0.1:{port}", "127.0.0.1:{port}"), ("user@127.0.0.1:{port}",), ("127.1:{port}",),
    ],
)  # fmt: skip
def test_any_other_name_is_refused(server: PageServer, hosts: tuple[str, ...]) -> None:
    """As where a page of elsewhere has its name lead here (DNS rebinding)."""
    lines = "".join(f"Host: {host.format(port=server.server_port)}\r\n" for host in hosts)
    answer = sent(server, f"GET {server.base}/ HTTP/1.1\r\n{lines}\r\n".encode())
    assert b" 421 " in answer.splitlines()[0]
    assert b"first" not in answer


def test_without_its_number_only_the_port_of_http_is_meant() -> None:
    server = PageServer.__new__(PageServer)
    server.server_port = 80
    assert server.answers_to(["localhost"])
    assert server.answers_to(["127.0.0.1:80"])
    server.server_port = 8080
    assert not server.answers_to(["localhost"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "PROPFIND"])
def test_only_get_and_head_are_allowed(server: PageServer, method: str) -> None:
    answer = asked(server, f"{server.base}/", method=method)
    assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert b"first" not in answer.body


def test_head_has_the_headers_of_get_and_no_body(server: PageServer) -> None:
    line = f" {server.base}/ HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode()
    got, head = (sent(server, method + line).partition(b"\r\n\r\n") for method in (b"GET", b"HEAD"))
    assert head[2] == b""
    assert [one for one in head[0].splitlines() if b"Date" not in one] == [one for one in got[0].splitlines() if b"Date" not in one]
    assert f"Content-Length: {len(got[2])}".encode() in head[0]


@pytest.mark.parametrize(("path", "policy"), [("{base}/", "default-src 'none'; x"), ("/", "default-src 'none'; frame-ancestors 'none'")])
def test_every_answer_is_kept_nowhere_tells_nobody_and_is_what_it_says(server: PageServer, path: str, policy: str) -> None:
    headers = asked(server, path.format(base=server.base)).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == policy
    assert headers["Content-Type"].endswith("; charset=utf-8")
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    "request_",
    [
        b"", b"\r\n\r\n", b"<script>alert(1)</script>\r\n\r\n", b"GET\r\n\r\n", b"GET / <b>HTTP\r\n\r\n", b"<b> / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: <b>\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"<b>" * 30_000 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET /<b>\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
    ],
)  # fmt: skip
def test_no_request_is_echoed_or_ends_the_server(server: PageServer, request_: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    answer = sent(server, request_)
    assert b"<" not in answer
    assert asked(server, f"{server.base}/").code == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_goes_is_no_error(server: PageServer, capfd: pytest.CaptureFixture[str]) -> None:
    begun, over = threading.Event(), threading.Event()

    def slow(_: str) -> Fake:
        begun.set()
        assert over.wait(20)
        return Fake("x" * (1 << 24))

    with served({"": slow}) as other:
        line = socket.create_connection(("127.0.0.1", other.server_port))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        line.sendall(f"GET {other.base}/ HTTP/1.1\r\nHost: localhost:{other.server_port}\r\n\r\n".encode())
        assert begun.wait(20)
        line.close()  # with a reset
        over.set()
        other.pages = {"": lambda _: Fake("next")}  # type: ignore[misc]
        assert asked(other, f"{other.base}/").body == b"next"
    assert capfd.readouterr() == ("", "")


def test_a_defect_is_printed_and_the_server_goes_on(server: PageServer, capfd: pytest.CaptureFixture[str]) -> None:
    def defect(_: str) -> Fake:
        raise ZeroDivisionError("a defect")

    with served({"": defect, "report": lambda _: Fake("whole")}) as other:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            asked(other, f"{other.base}/")
        assert asked(other, f"{other.base}/report").body == b"whole"
    assert "a defect" in capfd.readouterr().err


def test_it_listens_on_loopback_alone(server: PageServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.socket.family == socket.AF_INET
    if sys.platform == "linux":  # every address of 127/8 is this machine, and it is bound to one of them
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", server.server_port), timeout=5)


def test_a_port_that_is_taken_is_refused(server: PageServer) -> None:
    with pytest.raises(UsageError, match=rf"^--port {server.server_port} cannot be had: .*in use\. Give another one, or 0"):
        PageServer({}, server.server_port)


def test_several_are_answered_at_once() -> None:
    together = threading.Barrier(4, timeout=20)

    def meeting(_: str) -> Fake:
        together.wait()
        return Fake("met")

    with served({"": meeting}) as other:
        answers: list[bytes] = []
        threads = [threading.Thread(target=lambda: answers.append(asked(other, f"{other.base}/").body)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"met"] * 4


def test_a_client_that_says_nothing_keeps_nobody_waiting(server: PageServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as silent:
        assert asked(server, f"{server.base}/").code == 200
        silent.sendall(b"GET /")
        assert asked(server, f"{server.base}/").code == 200
