"""A place in object storage, by obstore: whole objects, created or replaced under a condition, listed, and the clock of the service.

Credentials come from where the tools of each service look for them: variables of the environment (AWS_*, GOOGLE_*, AZURE_*), files, and
the identity of the machine. None is kept, logged or shown.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar

from robustvit.errors import BadParameter, MissingExtra, StoreError, UsageError, nearest

_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?:/{1,2}(?!/)|(?=/|$))(.*)")  # a Path has one slash of two, or none at its end
_TIMEOUT, _RETRIES, _PATIENCE = "60s", 8, timedelta(seconds=180)
_BACKOFF: dict[str, Any] = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=20), "base": 2}
_TRIES = 6  # of a request whose connection breaks; those that get an error of the service obstore tries again itself
_CODE = re.compile(r"<Code>(\w+)</Code>|\"(?:code|error)\":\s*\"(\w+)\"")
_IDENTITY = "//169.254.169.254"  # where a machine in the cloud asks who it is: the last place in which credentials are looked for
_WAYS_OUT = {
    "NoCredentials": "there are no credentials. Set those of the service, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoSuchBucket": "the bucket is not there. Make it first, or give another place with --store",
    "ExpiredToken": "the credentials have expired. Renew them and run the same command again",
    "InvalidAccessKeyId": "the service does not know the access key. Look at the credentials in the environment",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key. Look at the credentials in the environment",
    "AccessDenied": "the credentials do not allow it. They need to list, read, write and delete below this place",
}


class ObjectFacts(NamedTuple):
    """Of an object: its size in bytes, its tag, which is another after each change, and when it was last written, seconds since 1970."""

    size: int
    tag: str
    written: float


def url_of(place: object) -> str | None:
    """The URL that a place means, which a Path may have lost a slash of; None for a folder of this machine.

    Raises BadParameter for a URL of no service that is known, without a bucket, with parameters, or with credentials, which it does not
    repeat: a URL is kept with the rows and shown.
    """
    found = _URL.fullmatch(os.fspath(place)) if isinstance(place, str | PurePath) else None
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2].strip("/") if not found[2].startswith("/") else ""
    if scheme not in _SCHEMES and "/" not in os.fspath(place):  # type: ignore[call-overload]
        return None
    if scheme not in _SCHEMES:
        raise BadParameter(
            f"{found[1]}:// is no kind of place for Records.{nearest(scheme, _SCHEMES)} There are s3://, gs:// and az://, and folders; "
            f"write ./{found[1]}:… for a folder of that name."
        )
    if ":" in rest.partition("/")[0].partition("@")[0] and "@" in rest.partition("/")[0]:
        raise BadParameter(
            f"{scheme}://… has credentials in it, and a URL is kept with the rows. Give them by the environment (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY)."
        )
    if not rest or "?" in rest:
        raise BadParameter(
            f"{scheme}:// takes no parameters, such as tokens: give credentials by the environment. Write {scheme}://BUCKET/FOLDER."
            if rest
            else f"{scheme}:// names no bucket: write {scheme}://BUCKET/FOLDER."
        )
    return f"{scheme}://{rest}"


def place_name(place: object) -> str:
    """A place as a message names it: its URL, which a Path may have lost a slash of, or the path."""
    return url_of(place) or str(place)


T = TypeVar("T")


class _Broken(StoreError):
    """A request without an answer, or with half of one."""


class ObjectPlace:
    """What lies below a URL, by names relative to it. Every method raises StoreError, in one line, where the service does not do it."""

    def __init__(self, url: str) -> None:
        try:
            import obstore
        except ModuleNotFoundError as error:
            raise MissingExtra(f"{url} needs obstore: python3 -m pip install 'robustvit[remote]'.") from error
        self.url, self._obstore = url, obstore
        http = any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"))
        retries: Any = {"max_retries": _RETRIES, "retry_timeout": _PATIENCE, "backoff": _BACKOFF}
        options: Any = {"timeout": _TIMEOUT, "connect_timeout": "10s", **({"allow_http": True} if http else {})}
        try:
            self._store = obstore.store.from_url(url, client_options=options, retry_config=retries)
        except (obstore.exceptions.BaseError, ValueError, OSError) as error:
            raise UsageError(f"--store {url}: {_first_line(error)}.") from error

    def listed(self, below: str = "") -> dict[str, ObjectFacts]:
        """Every object below a name that ends in a slash, or all."""
        return self._do("list", lambda: self._listed(below.rstrip("/") or None)) or {}

    def _listed(self, prefix: str | None) -> dict[str, ObjectFacts]:
        chunks = self._obstore.list(self._store, prefix=prefix)
        return {str(one["path"]): _facts(one) for chunk in chunks for one in chunk}

    def facts(self, name: str) -> ObjectFacts | None:
        """Of one object; None where there is none."""
        return self._do("read", lambda: _facts(self._obstore.head(self._store, name)))

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where there is none."""
        return self._do("read", lambda: bytes(self._obstore.get(self._store, name).bytes()))

    def write(self, name: str, content: bytes | memoryview) -> str:
        """Writes an object whole, whether or not there is one; returns its tag."""
        return self._do("write", lambda: str(self._obstore.put(self._store, name, bytes(content), use_multipart=False)["e_tag"])) or ""

    def create(self, name: str, content: bytes) -> str | None:
        """Writes an object where there is none; its tag, None where there was one. Of several at once one succeeds."""
        return self._put_if(name, content, "create")

    def exchange(self, name: str, content: bytes, tag: str) -> str | None:
        """Writes an object in place of the one with a tag; its new tag, None where that is no longer there."""
        return self._put_if(name, content, {"e_tag": tag})

    def remove(self, name: str) -> None:
        """Removes an object, where it is there."""
        self._do("remove", lambda: self._obstore.delete(self._store, name))

    def clock(self) -> float:
        """The time of the service, seconds since 1970: when an object is written that is written now."""
        name = f"leases/{uuid.uuid4().hex}.clock"
        self.write(name, b"")
        found = self.facts(name)
        self.remove(name)
        if found is None:
            raise StoreError(f"{self.url}: what was written a moment ago is not there.")
        return found.written

    def _put_if(self, name: str, content: bytes, mode: str | Mapping[str, str]) -> str | None:
        """Its tag, None where the condition does not hold; an earlier try whose answer was lost may have been carried out."""
        put = self._do("write", lambda: self._obstore.put(self._store, name, content, mode=mode, use_multipart=False))
        if put is not None:
            return str(put["e_tag"])
        kept = self.facts(name)
        return kept.tag if kept is not None and self.read(name) == content else None

    def _do(self, verb: str, call: Callable[[], T]) -> T | None:
        """What a request gives; None where there is no such object, or a condition does not hold. Broken connections are tried again."""
        absent = FileNotFoundError, self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.PreconditionError
        for tries in range(_TRIES):
            try:
                with self._told(verb), contextlib.suppress(*absent):
                    return call()
                return None
            except _Broken:
                if tries == _TRIES - 1:
                    raise
                time.sleep(0.1 * 2**tries * (0.5 + random.random()))
        return None

    @contextlib.contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """Raises StoreError, without what may be secret, in place of an error of obstore."""
        errors = self._obstore.exceptions
        try:
            yield
        except errors.BaseError as error:
            code = next((one for found in _CODE.finditer(str(error)) for one in found.groups() if one), "")
            code = code or ("NoCredentials" if _IDENTITY in str(error) else "")
            refused = isinstance(error, errors.PermissionDeniedError | errors.UnauthenticatedError)
            way_out = _WAYS_OUT.get(code) or (_WAYS_OUT["AccessDenied"] if refused else "")
            reason = way_out or f"{code or _first_line(error)}. The same command goes on once the service answers"
            tried = code or refused or " retries" in str(error)
            raise (StoreError if tried else _Broken)(f"cannot {verb} at {self.url}: {reason}.") from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _Broken(
                f"cannot {verb} at {self.url}: {_first_line(error)}. The same command goes on once the service answers."
            ) from error


def _facts(one: Mapping[str, Any]) -> ObjectFacts:
    return ObjectFacts(int(one["size"]), str(one["e_tag"]), one["last_modified"].timestamp())


def _first_line(error: BaseException) -> str:
    """What an error says first, without the addresses and signatures of requests."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return re.sub(r"\bhttps?://\S+", "the service", line)[:300].rstrip(".:")
