"""A small server of the S3 protocol in this process: whole objects in memory, conditional puts, lists, and faults on request."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

BUCKET = "bucket"
_time = time.time  # the clock of the service, whatever tests do to that of machines
_PAGE = 1000  # objects of an answer to a list


@dataclass
class ObjectServer:
    """What lies there, by key: content, tag, when it was written. ahead: seconds by which its clock is.

    errors: the share of requests answered with 500, of which half were carried out; short: the share of answers with a body that ends
    early; slow: seconds before each answer; denied: the code of an error that every request gets.
    """

    objects: dict[str, tuple[bytes, str, float]] = field(default_factory=dict)
    ahead: float = 0.0
    errors: float = 0.0
    short: float = 0.0
    slow: float = 0.0
    denied: str = ""
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    def now(self) -> float:
        return _time() + self.ahead

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client finds it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_REGION": "us-east-1",
        }  # fmt: skip


@contextlib.contextmanager
def object_server(port: int = 0) -> Iterator[ObjectServer]:
    """A server for the length of a block."""
    made = ObjectServer()
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"of": made}))
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    of: ObjectServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *given: object) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        self._handle()

    do_PUT = do_POST = do_HEAD = do_GET

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        of, url = self.of, urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        with of.lock:
            of.requests.append((self.command, key))
            fails, short = of.rng.random() < of.errors, of.rng.random() < of.short
            carried_out = not fails or of.rng.random() < 0.5
        if of.slow:
            time.sleep(of.slow)
        if of.denied:
            return self._error(403, of.denied)
        if bucket != BUCKET:
            return self._error(404, "NoSuchBucket")
        if not carried_out:
            return self._error(500, "InternalError")
        with of.lock:
            if key:
                status, content, headers = self._object(key, body)
            else:
                status, content, headers = self._removed(body) if self.command == "POST" else self._list(parse_qs(url.query))
        if fails:
            return self._error(500, "InternalError")
        self._answer(status, content, headers, short)
        return None

    def _object(self, key: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        of, known = self.of, self.of.objects.get(key)
        if self.command == "PUT":
            refused = (self.headers.get("If-None-Match") == "*" and known is not None) or (
                (wanted := self.headers.get("If-Match")) is not None and (known is None or known[1] != wanted)
            )
            if refused:
                return 412, b"<Error><Code>PreconditionFailed</Code></Error>", {}
            tag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
            of.objects[key] = body, tag, of.now()
            return 200, b"", {"ETag": tag}
        if known is None:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
        about = {"ETag": known[1], "Last-Modified": formatdate(known[2], usegmt=True)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            return 200, known[0], about
        first, last = int(wanted[1]), min(int(wanted[2] or len(known[0])), len(known[0]) - 1)
        return 206, known[0][first : last + 1], {**about, "Content-Range": f"bytes {first}-{last}/{len(known[0])}"}

    def _removed(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        keys = [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", body.decode())]
        for key in keys:
            self.of.objects.pop(key, None)
        told = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return 200, f'<?xml version="1.0"?><DeleteResult>{told}</DeleteResult>'.encode(), {"Content-Type": "application/xml"}

    def _list(self, query: dict[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = [key for key in sorted(self.of.objects) if key.startswith(prefix) and key > after]
        shown, more = keys[:_PAGE], keys[_PAGE:]
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(written)}</LastModified><ETag>{escape(tag)}</ETag>"
            f"<Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in shown
            for content, tag, written in [self.of.objects[key]]
        )
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
        text = (
            f'<?xml version="1.0"?><ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{str(bool(more)).lower()}</IsTruncated>'
            f"<KeyCount>{len(shown)}</KeyCount>{token}{items}</ListBucketResult>"
        )
        return 200, text.encode(), {"Content-Type": "application/xml"}

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), {}, False)

    def _answer(self, status: int, content: bytes, headers: dict[str, str], short: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if short else content)
        if short:
            self.close_connection = True


def _iso(written: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(written)) + f".{int(written % 1 * 1000):03}Z"
