"""A server of files on loopback that cuts, corrupts, redirects and refuses, as the script of each address says."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Served:
    """One address: its bytes, and what its next answers do wrong, the last of them for ever where `always`.

    wrong: "cut N" closes after N bytes of the body, "slow N" waits there until the test lets it go on, "status N" answers that code,
    "redirect /other", "ignore" ignores Range, "length N" does so and announces N bytes, "unmeasured" announces none, "shifted" sends
    another range than was asked for.
    """

    body: bytes
    wrong: list[str] = field(default_factory=list)
    always: bool = False
    etag: str = '"one"'


class Loopback:
    """Files by their paths, and the requests that came: (path, Range)."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str]] = []
        self.released = threading.Event()
        self.base = ""

    def serve(self, path: str, body: bytes, *wrong: str, always: bool = False) -> str:
        """Serves bytes at a path; returns the address."""
        self.files[path] = Served(body, list(wrong), always)
        return self.base + path


@contextmanager
def loopback() -> Iterator[Loopback]:
    """A running server."""
    state = Loopback()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.requests.append((self.path, asked))
            file = state.files.get(self.path)
            if file is None:
                self.send_error(404)
                return
            wrong = (file.wrong[0] if file.always else file.wrong.pop(0)) if file.wrong else ""
            word, _, value = wrong.partition(" ")
            if word == "status":
                self.send_error(int(value))
            elif word == "redirect":
                self.send_response(302)
                self.send_header("Location", value)
                self.end_headers()
            else:
                self._send(file, word, value, asked)

        def _send(self, file: Served, word: str, value: str, asked: str) -> None:
            first = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", asked)) and word not in ("ignore", "length") else 0
            first = 0 if self.headers.get("If-Range", file.etag) != file.etag else first
            total = len(file.body)
            if first and first >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.end_headers()
                return
            self.send_response(206 if first else 200)
            if first:
                shown = first + 1 if word == "shifted" else first
                self.send_header("Content-Range", f"bytes {shown}-{total - 1}/{total}")
            if word != "unmeasured":
                self.send_header("Content-Length", value if word == "length" else str(total - first))
            self.send_header("ETag", file.etag)
            self.end_headers()
            body = file.body[first:]
            if word in ("cut", "slow"):
                self.wfile.write(body[: int(value)])
                self.wfile.flush()
                if word == "slow":
                    state.released.wait(30)
                    self.wfile.write(body[int(value) :])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
