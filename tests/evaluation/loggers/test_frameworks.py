"""MLflow and Weights & Biases for real, both without a server: what they stored is read back with their own classes."""

import time
from pathlib import Path
from typing import Any

import pytest

from robustvit.errors import BadParameter
from robustvit.evaluation.loggers.log_kinds import LogFacts, open_log

pytestmark = pytest.mark.frameworks
FACTS = LogFacts("mine", "group", {"lr": 0.1, "suite": "quick", "none": None})


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


def log_in_two_parts(kind: str, out: Path) -> None:
    """Steps 1 to 3, of which a kill left 1 and 2 as done; then 3 and 4."""
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = open_log(kind, out, first, FACTS)
        for step in steps:
            log.write(step, {"loss": step / 2, "mt5d(*)": 1.0, "nothing": float("nan")})
        log.close()
        time.sleep(1.1)  # W&B names the files of a run by the second


def test_mlflow_has_the_settings_and_every_step_once(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    log_in_two_parts("mlflow", tmp_path / "a.x")
    client = mlflow.MlflowClient((tmp_path / "a.mlflow" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("robustvit")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params == {"lr": "0.1", "suite": "quick"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((one.step, one.value) for one in history) == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert set(run.data.metrics) == {"loss", "mt5d_ _".replace(" ", "_")}


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadParameter, match=r"^the log [^\n]* cannot be written by mlflow: [^\n]*$"):
        open_log("mlflow", tmp_path / "a.x", 0, FACTS)


def wandb_records(folder: Path) -> list[Any]:
    """What the offline runs of a folder hold.

    A file is a header of seven bytes and then a log in LevelDB's format: blocks of 32 KiB, each of parts with a checksum, a length and a
    type (whole 1, first 2, middle 3, last 4), and zeros where no further part fits.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(folder.rglob("*.wandb"), key=lambda path: path.stat().st_mtime):
        content, at, parts = path.read_bytes() if path.is_file() else b"", 7, b""
        while at + 7 <= len(content):
            left = 32768 - at % 32768
            if left < 7:
                at += left
                continue
            length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
            parts += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                found.append(Record.FromString(parts))
                parts = b""
    return found


def test_wandb_offline_has_the_settings_and_the_steps(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    log_in_two_parts("wandb", tmp_path / "a.x")
    records = wandb_records(tmp_path / "a.wandb")
    runs = [one.run for one in records if one.WhichOneof("record_type") == "run"]
    assert {(run.display_name, run.run_group, run.project) for run in runs} == {("mine", "group", "robustvit")}
    assert len({run.run_id for run in runs}) == 1
    assert {item.key: item.value_json for item in runs[0].config.update if item.key in ("lr", "suite")} == {"lr": "0.1", "suite": '"quick"'}
    rows = [one.history for one in records if one.WhichOneof("record_type") == "history"]
    values = [{(item.key or "/".join(item.nested_key)): item.value_json for item in row.item} for row in rows]
    assert [(int(row["_step"]), float(row["loss"])) for row in values] == [(1, 0.5), (2, 1.0), (3, 1.5), (3, 1.5), (4, 2.0)]


def test_the_numbers_of_a_run_reach_mlflow(make_store: Any, answered: Any) -> None:
    mlflow = pytest.importorskip("mlflow")
    from robustvit.cli.commands.run_log import log_run
    from robustvit.results.leaderboard import leaderboard

    cells = {("a", "clean", ""): answered([True] * 9 + [False]), ("a", "fog", "3"): answered([True] * 5 + [False] * 5)}
    place = make_store(cells, metrics=["top1", "nll"]).path
    (path,) = log_run("mlflow", place, leaderboard(place))
    client = mlflow.MlflowClient((path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("robustvit").experiment_id])
    assert (run.info.run_name, run.data.tags["suite"], run.data.params["model"]) == ("a on made-up", "made-up", "a")
    assert run.data.metrics["clean/top1"] == 90.0
    assert run.data.metrics["fog 3/top1"] == 50.0
    assert run.data.metrics["fog 3/top1 low"] < 50 < run.data.metrics["fog 3/top1 high"]
