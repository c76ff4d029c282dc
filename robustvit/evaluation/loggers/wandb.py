"""Numbers by step for Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter
from robustvit.evaluation.loggers.log_kinds import LogFacts, keep_id, kept_id, log_kind, settings_of

_ID = "run-id"


@log_kind(ending=".wandb", package="wandb", extra="wandb")
class WandbRun:
    """A run of Weights & Biases, its files in a folder beside the results.

    Where it goes is W&B's own affair: WANDB_MODE, WANDB_PROJECT (else `robustvit`), WANDB_ENTITY and its login. Without a mode and without
    a login it is offline, and `wandb sync` uploads the folder. first: the steps that are done; a run that was killed goes on under its id.
    """

    def __init__(self, path: Path, first: int, facts: LogFacts) -> None:
        import wandb

        self.path, self._errors = path, (wandb.errors.Error, OSError, ValueError)
        known = kept_id(path, first, _ID)
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or "robustvit", dir=str(path), id=known or None, resume="allow" if known else None,
                name=facts.name or None, group=facts.group or None, config=settings_of(facts), mode=mode,
                settings=wandb.Settings(silent=True, console="off"),
            )  # fmt: skip
        except self._errors as error:
            raise BadParameter(f"the log {path} cannot be opened by wandb: {error}.") from error
        keep_id(path, _ID, self._run.id)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Log."""
        try:
            self._run.log(dict(values), step=step)
        except self._errors as error:
            raise BadParameter(f"the log {self.path} cannot be written by wandb: {error}.") from error

    def close(self) -> None:
        """See Log."""
        self._run.finish()
