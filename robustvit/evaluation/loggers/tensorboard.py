"""Numbers by step for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter
from robustvit.evaluation.loggers.log_kinds import LogFacts, log_kind


@log_kind(ending=".tensorboard", package="tensorboard", extra="tensorboard")
class TensorBoard:
    """A folder of TensorBoard's event files. first: the steps that are done; what a killed run wrote after them is hidden."""

    def __init__(self, path: Path, first: int, facts: LogFacts) -> None:
        from torch.utils.tensorboard import SummaryWriter

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
