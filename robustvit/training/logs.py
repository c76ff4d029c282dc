"""What a training run says of itself while it goes on: numbers by step, as lines of JSON or for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from robustvit.errors import BadParameter, MissingExtra, nearest


class Log(Protocol):
    """Where numbers go. Both calls raise BadParameter where it cannot be written."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers by name, such as loss and lr, of the state after so many steps."""

    def close(self) -> None:
        """Ends it."""


class JsonLines:
    """A file with one JSON object a line: step, and numbers by name.

    first: the steps that are done; later lines, of a run that was killed after them, are removed.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        try:
            kept = path.read_text(encoding="utf-8").splitlines() if first and path.exists() else []
            lines = [line for line in kept if line.endswith("}") and json.loads(line)["step"] <= first]
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            self._file = path.open("a", encoding="utf-8")
        except (OSError, ValueError, KeyError) as error:
            raise BadParameter(f"the log {path} cannot be written or read: {error}.") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Log."""
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise BadParameter(f"the log {self.path} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """See Log."""
        self._file.close()


class TensorBoard:
    """A folder of TensorBoard's event files. first: the steps that are done; what a killed run wrote after them is hidden."""

    def __init__(self, path: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("a log for TensorBoard needs tensorboard: python3 -m pip install 'robustvit[tensorboard]'.") from error
        try:
            self._writer: Any = SummaryWriter(str(path), purge_step=first + 1)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise BadParameter(f"the log {path} cannot be written: {error.strerror}.") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Log."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See Log."""
        self._writer.close()


_KINDS: dict[str, tuple[Callable[[Path, int], Log], str]] = {
    "jsonl": (JsonLines, ".log.jsonl"),
    "tensorboard": (TensorBoard, ".tensorboard"),
}


def log_path(kind: str, out: Path) -> Path:
    """The file or folder of a log beside a checkpoint. Raises BadParameter for a kind that there is not."""
    if kind not in _KINDS:
        raise BadParameter(f"training's log is '{kind}'; it takes {' or '.join(_KINDS)}.{nearest(kind, _KINDS)}")
    return out.with_suffix(_KINDS[kind][1])


def open_log(kind: str, out: Path, first: int) -> Log:
    """The log of training that has done its first steps, beside its checkpoint. Raises BadParameter or MissingExtra."""
    path = log_path(kind, out)
    return _KINDS[kind][0](path, first)
