"""Numbers by step as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from robustvit.errors import BadParameter
from robustvit.evaluation.loggers.log_kinds import LogFacts, log_kind


@log_kind(ending=".log.jsonl")
class JsonLines:
    """A file with one JSON object a line: step, and numbers by name.

    first: the steps that are done; later lines, of a run that was killed after them, are removed.
    """

    def __init__(self, path: Path, first: int, facts: LogFacts) -> None:
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
