"""Fetches one file over HTTP, continuing what an earlier attempt or process left of it.

Libraries were looked at first: pooch, fsspec and torch.hub begin anew after a cut, and the hub's client resumes files of the hub alone.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from robustvit.errors import DataError
from robustvit.version import __version__

Progress = Callable[[int, int, str], None]

_BLOCK = 1 << 20  # bytes that are read at once
_TIMEOUT = 60.0  # seconds without a byte
_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt; an attempt that brought bytes begins them anew
_LONGEST_WAIT = 60.0  # seconds, of those that a server asks for
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # status codes that pass


def fetch_file(url: str, part: Path, *, size: int | None = None, progress: Progress | None = None) -> None:
    """Fetches the file at an address into `part`, which then holds all of it; bytes that it holds already are not fetched again.

    size: how many bytes the file has, where that is known. $ROBUSTVIT_MIRROR: see `mirrored`. Raises DataError where the server refuses,
    offers a file of another size, or brings no further bytes in several attempts; what arrived stays in `part`.
    """
    attempt, address = 0, mirrored(url)
    while True:
        before = _held(part)
        if size is not None and before == size:
            return
        try:
            if _continue(address, part, size, progress):
                return
            problem = "the connection ended before the file did"
        except urllib.error.HTTPError as error:
            if error.code not in _AGAIN:
                raise DataError(f"{address}: the server answers {error.code} {error.reason}; nothing can be fetched there.") from error
            problem, asked = f"the server answers {error.code} {error.reason}", error.headers.get("Retry-After", "")
            if attempt < len(_WAITS) and asked.isdecimal():
                time.sleep(min(float(asked), _LONGEST_WAIT))
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError, urllib.error.URLError) as error:
            problem = str(getattr(error, "reason", error) or type(error).__name__)
        attempt = 0 if _held(part) > before else attempt
        if attempt == len(_WAITS):
            raise DataError(
                f"{address}: {problem}, {attempt + 1} times in a row. {_held(part):,} bytes are kept: the same command continues."
            )
        time.sleep(_WAITS[attempt])
        attempt += 1


def fetch_json(url: str) -> Any:
    """The JSON document at an address. Raises DataError where the server refuses or answers anything else."""
    address = mirrored(url)
    try:
        with _opener().open(_request(address), timeout=_TIMEOUT) as answer:
            return json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{address}: {error}.") from error


def mirrored(url: str) -> str:
    """The address below $ROBUSTVIT_MIRROR, `<mirror>/<host>/<path>` as `wget --force-directories` has files; without it the address."""
    mirror = os.environ.get("ROBUSTVIT_MIRROR", "").rstrip("/")
    parts = urlsplit(url)
    return f"{mirror}/{parts.netloc}{parts.path}" if mirror else url


class _Span(NamedTuple):
    """Which bytes an answer brings: the first, and how many the whole file has, None where the server does not tell."""

    first: int
    total: int | None


def _continue(url: str, part: Path, size: int | None, progress: Progress | None) -> bool:
    """One request for what `part` lacks. Returns whether the file is whole now."""
    held, mark = _held(part), _mark_of(part)
    request = _request(url, held, mark.read_text(encoding="utf-8") if held and mark.is_file() else "")
    try:
        answer = _opener().open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{held}"):  # nothing is lacking
            return True
        part.unlink()  # longer than the file, or of another one
        return False
    with answer:
        span = _span(answer, held)
        if size is not None and span.total is not None and span.total != size:
            raise DataError(f"{answer.url}: the server offers {span.total:,} bytes; the file has {size:,}. It may have been replaced.")
        if span.total is not None and shutil.disk_usage(part.parent).free < span.total - span.first:
            raise DataError(f"{answer.url}: the disk of {part.parent} has less room than the {span.total - span.first:,} bytes to fetch.")
        mark.write_text(_validator(answer), encoding="utf-8")
        with part.open("r+b" if span.first else "wb") as sink:
            sink.truncate(span.first)
            sink.seek(span.first)
            while block := answer.read(_BLOCK):
                sink.write(block)
                if progress is not None:
                    progress(sink.tell(), span.total or size or sink.tell(), f"fetching {part.stem}")
    return _held(part) == span.total if span.total is not None else size is None or _held(part) == size


def _request(url: str, held: int = 0, validator: str = "") -> urllib.request.Request:
    headers = {"User-Agent": f"robustvit/{__version__}", "Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
    if held and validator:
        headers["If-Range"] = validator  # a file that has changed since is sent whole
    return urllib.request.Request(url, headers=headers)


def _span(answer: Any, held: int) -> _Span:
    """Raises DataError for a part of the file that does not follow what is held."""
    length = answer.headers.get("Content-Length")
    if answer.status != 206:
        return _Span(0, None if length is None else int(length))
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(held):
        raise DataError(f"{answer.url}: asked for the bytes from {held:,}, the server sends '{span or 'bytes without a range'}'.")
    return _Span(held, int(total) if total.isdecimal() else None)


def _validator(answer: Any) -> str:
    """What identifies this version of the file in a later request: a strong ETag, or the date of its last change."""
    etag = str(answer.headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def _mark_of(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _held(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP servers, but none from an encrypted connection to one that is not."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise DataError(f"{req.full_url}: the server redirects to {newurl}, which is not encrypted; it is not followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)
