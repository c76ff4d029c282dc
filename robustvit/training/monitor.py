"""Robust numbers while a model trains: a suite every few epochs, to find the epoch where they are best."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from robustvit.errors import BadParameter
from robustvit.evaluation.images.kept_suite import named_suite
from robustvit.evaluation.loading import load_data
from robustvit.evaluation.run import run
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.records.disk import write_output
from robustvit.records.records import Records
from robustvit.records.store import Store
from robustvit.spec import registry
from robustvit.spec.given import check_whole
from robustvit.spec.suite import Suite

_MOST = 1_000_000
_CLEAN = "clean"


class Measured(NamedTuple):
    """What a suite found of a model after an epoch. clean, score: accuracies in [0, 1]; clean is NaN where the suite has no clean images.

    score: of a suite with attacks the share of images that are classified correctly under all of them, else the mean over its scenarios.
    """

    epoch: int
    clean: float
    score: float


class Monitor:
    """A suite that is run on a model while it trains, every `every` epochs and after the last, on the first `limit` images of `data`.

    suite: its name, a file, or a Suite. data: other images than those of training, and than those on which the trained model is reported,
    where the best epoch is chosen by the score. store: the folder of its Records, from which boards are made as from any other. The models
    are called `epoch 3` there. Raises BadParameter for numbers that are none, and whatever a suite or data that are not there raise.
    """

    def __init__(
        self, suite: Suite | str | Path, data: str | Data | None = None, *, every: int = 1, limit: int = 512, store: Path | str,
        data_dir: Path | None = None,
    ) -> None:  # fmt: skip
        check_whole(every, "a monitor's every", 1, _MOST)
        check_whole(limit, "a monitor's limit", 1, _MOST)
        self.suite = suite if isinstance(suite, Suite) else named_suite(suite)
        self.named = suite.name if isinstance(suite, Suite) else str(suite)
        self.data, self.every, self.limit, self.store, self.data_dir = data, every, limit, Path(store), data_dir
        if isinstance(data, str):
            load_data(data, data_dir=data_dir)  # what is not there is said before training

    def options(self) -> tuple[str, ...]:
        """The words of a command line that keeps the best epoch by it."""
        data = self.data if isinstance(self.data, str) or self.data is None else self.data.name
        words = ("--eval-suite", self.named, *(() if data is None else ("--eval-data", data)))
        return (*words, "--eval-limit", str(self.limit), "--every", str(self.every), "--keep-best")

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether the suite is to be run after an epoch, counted from 1."""
        return epoch % self.every == 0 or epoch == epochs

    def measure(self, model: Classifier, epoch: int) -> Measured:
        """Runs the suite on a model that nothing trains any more, such as a copy. torch's generators are as before.

        Raises BadParameter where a cell of the suite failed, with the reason.
        """
        label = f"epoch {epoch}"
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            done = run(
                self.suite, [model.relabel(label)], self.data, store=self.store, limit=self.limit, device=str(model.device),
                data_dir=self.data_dir, progress=False,
            )  # fmt: skip
        if done.failed:
            reason = next(iter(done.failed.values()))
            raise BadParameter(f"the suite that watches training failed after epoch {epoch}: {reason}")
        store = Store(self.store)
        mine = [one for one in store.questions(self.suite.name) if one.weights == model.card.fingerprint]
        rows = Records([(one, store.files(one.cell)) for one in mine]).to_pandas(["sample", "label", "pred"])
        right = rows.assign(right=rows["pred"] == rows["label"])
        return Measured(epoch, float(right.loc[right["scenario"] == _CLEAN, "right"].mean()), _score(right))


def calibration_part(address: str) -> str:
    """The address of the part of a data set on which a monitor chooses, of the split that is held out of training."""
    return f"{address}{'&' if '?' in address else '?'}part=calibration"


class Watch:
    """A Monitor in a training run that may be killed: what it measured so far, and the file of the best weights.

    log: a file with a line for each measurement, which stays; best: the file for the best weights until training ends. finished: the whole
    epochs of a run that goes on; later lines of the log are measured again.
    """

    def __init__(self, monitor: Monitor, log: Path, best: Path, finished: int) -> None:
        self.monitor, self.log, self.best = monitor, log, best
        for path in (log, best):
            if path.is_dir():
                raise BadParameter(f"{path} is a folder, and training writes a file of that name; move it, or name another --out.")
        lines = log.read_text().splitlines() if finished and log.exists() else []
        self.measured = [one for one in (Measured(**json.loads(line)) for line in lines) if one.epoch <= finished]

    @property
    def chosen(self) -> Measured | None:
        """The measurement with the best score, of equal ones the earliest; None before the first."""
        return max(self.measured, key=lambda one: (one.score, -one.epoch), default=None)

    def after(self, epoch: int, model: Classifier, content: Callable[[], bytes]) -> Measured:
        """Measures a model after an epoch, and keeps what `content` makes of it where it is the best so far."""
        found = self.monitor.measure(model, epoch)
        self.measured.append(found)
        self._write(self.log, "".join(f"{json.dumps(one._asdict())}\n" for one in self.measured).encode())
        if self.chosen is self.measured[-1]:
            self._write(self.best, content())
        return found

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_output(path, content)
        except OSError as error:
            raise BadParameter(f"{path} cannot be written: {error.strerror}.") from error


def _score(rows: pd.DataFrame) -> float:
    """See Measured. rows: with `sample`, `cell`, `scenario` and whether the prediction is `right`."""
    attacked = rows[[registry.scenario_entry(name).kind == "attack" for name in rows["scenario"]]]
    if len(attacked):
        return float(attacked.groupby("sample")["right"].all().mean())
    others = rows[rows["scenario"] != _CLEAN]
    return float((others if len(others) else rows).groupby("cell")["right"].mean().mean())
