"""A server of a few pages on loopback, below a path that nobody can guess.

Other programs and pages of this machine's browser can reach a port of it too: a page of elsewhere that takes a name of its own for this
address (DNS rebinding) is told by the Host header, everything else by the path.
"""

from __future__ import annotations

import hmac
import http.server
import secrets
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Protocol

from robustvit.errors import UsageError

_ADDRESS = "127.0.0.1"
_NAMES = (_ADDRESS, "localhost")
_HTTP = 80  # a browser leaves this port out of the Host header
_PATIENCE = 10.0  # seconds that a client may let the server wait
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


class Page(Protocol):
    """A page of HTML with the content security policy to send. there: whether it is what was asked for."""

    @property
    def html(self) -> str: ...  # noqa: D102

    @property
    def policy(self) -> str: ...  # noqa: D102

    @property
    def there(self) -> bool: ...  # noqa: D102


Pages = Mapping[str, Callable[[str], Page]]
"""What makes the pages, by their paths below the token, "" for the first; each is given the path that leads to the first."""


class PageServer(http.server.ThreadingHTTPServer):
    """Serves pages. Raises UsageError where the port is taken, or may not be."""

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # there it would let two servers have one port
    allow_reuse_port = False

    def __init__(self, pages: Pages, port: int = 0) -> None:
        self.pages = pages
        self.base = f"/{secrets.token_urlsafe(24)}"
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"--port {port} cannot be had: {error.strerror or error}. Give another one, or 0 for any that is free."
            ) from error

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http://{_ADDRESS}:{self.server_port}{self.base}/"

    def server_bind(self) -> None:
        """Binds without a look-up of this machine's name, which may take long where there is no network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _ADDRESS, int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that have gone; anything else is a defect, whose traceback is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def page(self, path: str) -> Callable[[str], Page] | None:
        """What makes the page at a path; None where there is none."""
        _, token, *rest = path.split("/", 2) if path.startswith("/") else ("", "", "")
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self.base[1:].encode()):
            return None
        return self.pages.get(rest[0] if rest else "")

    def answers_to(self, hosts: list[str]) -> bool:
        """Whether the Host headers of a request, of which there must be one, name this server."""
        ports = [f":{self.server_port}", *([""] if self.server_port == _HTTP else [])]
        return len(hosts) == 1 and hosts[0].strip().lower() in {name + port for name in _NAMES for port in ports}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer
    timeout = _PATIENCE
    server_version, sys_version = "robustvit", ""

    def do_GET(self) -> None:
        if not self.server.answers_to(self.headers.get_all("Host", [])):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif (make := self.server.page(self.path)) is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            page = make(self.server.base)
            self._send(HTTPStatus.OK if page.there else HTTPStatus.SERVICE_UNAVAILABLE, page.html, "text/html", page.policy)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers with the usual words for a code, and nothing of the request. Methods other than GET and HEAD are not allowed."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.close_connection = True
        self._send(status, f"{status.value} {status.phrase}\n", "text/plain", _NOTHING)

    def _send(self, status: HTTPStatus, text: str, kind: str, policy: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in {**_HEADERS, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *given: object) -> None:
        """Nothing is logged: the address of a request is the secret."""


@contextmanager
def served(pages: Pages, port: int = 0) -> Iterator[PageServer]:
    """A server that answers, in threads of its own, as long as the block. Raises UsageError as PageServer does."""
    server = PageServer(pages, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
