"""Numbers by step for MLflow."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustvit.errors import BadParameter
from robustvit.evaluation.loggers.log_kinds import LogFacts, keep_id, kept_id, log_kind, settings_of

_ID = "run-id"
_LONGEST = 500  # characters of a parameter that every server takes
_AT_ONCE = 500  # metrics of a request; a server takes 1,000


@log_kind(ending=".mlflow", package="mlflow", extra="mlflow")
class MlflowRun:
    """A run of MLflow, in the experiment MLFLOW_EXPERIMENT_NAME or `robustvit`.

    It goes to MLFLOW_TRACKING_URI, or else into files in a folder beside the results, which mlflow-skinny writes without a database; MLflow
    reads them where MLFLOW_ALLOW_FILE_STORE is true, as it is in this process, and `mlflow migrate-filestore` converts them.
    first: the steps that are done; a run that was killed goes on under its id, and what it wrote after these steps is not repeated.
    """

    def __init__(self, path: Path, first: int, facts: LogFacts) -> None:
        import mlflow

        self.path, self._errors = path, (mlflow.exceptions.MlflowException, OSError)
        self._written: dict[str, int] = {}
        known = kept_id(path, first, _ID)
        try:
            self._client: Any = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or _folder(path))
            self._run = known or self._begun(facts)
            if known:
                self._client.update_run(known, status="RUNNING")
        except self._errors as error:
            raise self._refused(error) from error
        keep_id(path, _ID, self._run)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See Log."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        named = {re.sub(r"[^\w .:/-]", "_", name): value for name, value in values.items() if not math.isnan(value)}
        try:
            new = [Metric(name, float(value), now, step) for name, value in named.items() if step > self._last(name)]
            for start in range(0, len(new), _AT_ONCE):
                self._client.log_batch(self._run, metrics=new[start : start + _AT_ONCE])
        except self._errors as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """See Log."""
        try:
            self._client.set_terminated(self._run)
        except self._errors as error:
            raise self._refused(error) from error

    def _begun(self, facts: LogFacts) -> str:
        """The id of a new run with its settings."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "robustvit"
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
        run = str(self._client.create_run(number, run_name=facts.name or None, tags={"suite": facts.group}).info.run_id)
        for key, value in settings_of(facts).items():
            self._client.log_param(run, re.sub(r"[^\w .:/-]", "_", key), str(value)[:_LONGEST])
        return run

    def _last(self, name: str) -> int:
        """The last step of a metric that the run had before this process; -1 for none."""
        if name not in self._written:
            self._written[name] = max((one.step for one in self._client.get_metric_history(self._run, name)), default=-1)
        return self._written[name]

    def _refused(self, error: Exception) -> BadParameter:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return BadParameter(f"the log {self.path} cannot be written by mlflow: {text[:300]}")


def _folder(path: Path) -> str:
    """The address of a folder of files."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return (path / "mlruns").absolute().as_uri()
