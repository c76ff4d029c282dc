"""The table of logs: every module of this package but this one is one kind, named as the module.

A module holds one class under `@log_kind`; nothing else is edited for a new kind. Its package, where it needs one, is imported when a log
is opened.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from robustvit.errors import BadParameter, MissingExtra, nearest


class Log(Protocol):
    """Where numbers go. Both calls raise BadParameter where it cannot be written."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers by name, such as loss and lr, of the state after so many steps."""

    def close(self) -> None:
        """Ends it."""


@dataclass(frozen=True)
class LogFacts:
    """What a log is of. name: a title; group: what several logs belong to; settings: by name, as a log's configuration."""

    name: str = ""
    group: str = ""
    settings: Mapping[str, str | int | float | bool | None] | None = None


class OpenLog(Protocol):
    """A class of logs: path, how many steps are done, and what the log is of."""

    def __call__(self, path: Path, first: int, facts: LogFacts) -> Log:
        """Opens a log; numbers of later steps than `first`, of a run that was killed after them, are not repeated."""


@dataclass(frozen=True)
class LogKind:
    """A kind of log. ending: of its file or folder; package, extra: what it imports, and the extra that has it, "" for nothing."""

    name: str
    open: OpenLog
    ending: str
    package: str = ""
    extra: str = ""


T = TypeVar("T", bound=OpenLog)
_KINDS: dict[str, LogKind] = {}


def log_kind(*, ending: str, package: str = "", extra: str = "") -> Callable[[T], T]:
    """Makes a class the log of its module."""

    def register(opened: T) -> T:
        name = str(getattr(opened, "__module__", "")).rpartition(".")[2]
        _KINDS[name] = LogKind(name, opened, ending, package, extra)
        return opened

    return register


@functools.cache
def log_names() -> tuple[str, ...]:
    """The kinds that there are, by the modules of this package; none of them is imported."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(sorted(name for name in modules if name not in ("__init__", Path(__file__).stem)))


def find_log(kind: str) -> LogKind:
    """A kind by its name. Raises BadParameter for one that there is not."""
    if kind not in log_names():
        *others, last = log_names()
        raise BadParameter(f"the log is '{kind}'; it takes {', '.join(others)} or {last}.{nearest(kind, log_names())}")
    importlib.import_module(f"{__package__}.{kind}")
    return _KINDS[kind]


def check_log(kind: str) -> None:
    """Raises BadParameter for a kind that there is not, MissingExtra where its package is not installed."""
    found = find_log(kind)
    try:
        if found.package:
            importlib.import_module(found.package)
    except ImportError as error:
        raise MissingExtra(f"a log for {kind} needs {found.package}: python3 -m pip install 'robustvit[{found.extra}]'.") from error


def log_path(kind: str, out: Path) -> Path:
    """The file or folder of a log beside a file. Raises BadParameter for a kind that there is not."""
    return out.with_suffix(find_log(kind).ending)


def open_log(kind: str, out: Path, first: int, facts: LogFacts | None = None) -> Log:
    """The log of a run that has done its first steps, beside its file. Raises BadParameter or MissingExtra."""
    check_log(kind)
    return find_log(kind).open(log_path(kind, out), first, facts or LogFacts())


def kept_id(path: Path, first: int, name: str) -> str:
    """The id that a log keeps in its folder under a name: of the run that went on before these first steps; "" for a new one.

    Raises BadParameter where the folder cannot be made or read.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        place = path / name
        return place.read_text(encoding="utf-8").strip() if first and place.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadParameter(f"the log {path} cannot be written or read: {error}.") from error


def keep_id(path: Path, name: str, value: str) -> None:
    """Keeps an id for `kept_id`. Raises BadParameter where it cannot be written."""
    try:
        (path / name).write_text(f"{value}\n", encoding="utf-8")
    except OSError as error:
        raise BadParameter(f"the log {path} cannot be written: {error.strerror}.") from error


def settings_of(facts: LogFacts) -> dict[str, Any]:
    """The settings of a log that are known."""
    return {name: value for name, value in (facts.settings or {}).items() if value is not None}
