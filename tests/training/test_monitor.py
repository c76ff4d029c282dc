"""Robust numbers while a model trains, and the weights of the epoch where they are best."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

import robustvit as rv
from robustvit.errors import BadParameter, UsageError
from robustvit.models.checkpoint import read_about
from robustvit.training import monitor as monitors
from robustvit.training.loop import EpochProgress
from robustvit.training.monitor import Measured, Monitor, Watch, calibration_part
from robustvit.training.recipe import Recipe
from robustvit.training.run import TrainResult, accuracy, train_from_spec

SUITE = "{name: w, title: w, data: digits, scenarios: [clean, {fgsm: {eps: 4/255}}, {pgd: {eps: 4/255, steps: 3}}], metrics: [top1]}"
SHORT = Recipe(epochs=3, batch_size=640, lr=1e-3)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "w.yaml").write_text(SUITE)
    return tmp_path / "w.yaml"


def trained(out: Path, monitor: Monitor | None, **options: object) -> TrainResult:
    return train_from_spec(data="digits", start="demo", out=out, recipe=SHORT, monitor=monitor, **options)  # type: ignore[arg-type]


def test_the_score_is_the_share_that_every_attack_leaves_right(tmp_path: Path, suite: Path) -> None:
    generator = torch.random.get_rng_state()
    found = Monitor(suite, "digits?part=calibration", limit=40, store=tmp_path / "s").measure(rv.load_model("demo"), 7)
    assert torch.equal(torch.random.get_rng_state(), generator)
    rows = rv.load_records(tmp_path / "s").to_pandas(["sample", "label", "pred"])
    assert set(rows["model"]) == {"epoch 7"}
    right = rows.assign(right=rows["label"] == rows["pred"]).pivot(index="sample", columns="scenario", values="right")
    assert found == Measured(7, right["clean"].mean(), (right["fgsm"] & right["pgd"]).mean())
    assert 0 < found.score < found.clean


def test_another_run_in_the_same_store_and_another_suite_do_not_change_what_is_measured(tmp_path: Path, suite: Path) -> None:
    view, other, generator = rv.load_model("demo").view, tmp_path / "v.yaml", torch.Generator().manual_seed(0)
    other.write_text(SUITE.replace("name: w", "name: v").replace("4/255", "8/255"))
    worse, network = rv.load_model("demo").model, rv.load_model("demo").model
    with torch.no_grad():
        for weight in worse.parameters():
            weight.add_(0.25 * weight.std() * torch.randn(weight.shape, generator=generator) if weight.numel() > 1 else 0)

    def score(given: Path, store: str, model: torch.nn.Module) -> float:
        monitor = Monitor(given, "digits?part=calibration", limit=20, store=tmp_path / store)
        return monitor.measure(rv.as_classifier(model, view, (0.5,) * 3, (0.5,) * 3), 1).score

    for given in (other, suite):
        assert score(given, "shared", worse) < score(given, f"alone-{given.stem}", network) == score(given, "shared", network)
    assert score(suite, "shared", network) > score(other, "shared", network)


def test_without_attacks_the_score_is_the_mean_over_scenarios_or_that_of_clean_images() -> None:
    rows = pd.DataFrame({"cell": list("aabbb"), "scenario": ["fog"] * 2 + ["snow"] * 3, "sample": list("12123"), "right": [1, 0, 1, 1, 1]})
    assert monitors._score(rows) == 0.75
    clean = pd.DataFrame({"cell": list("ccc"), "scenario": ["clean"] * 3, "sample": list("123"), "right": [1, 0, 0]})
    assert monitors._score(pd.concat([rows, clean])) == 0.75
    assert monitors._score(clean) == pytest.approx(1 / 3)


def test_training_is_the_same_with_a_monitor(tmp_path: Path, suite: Path) -> None:
    alone = trained(tmp_path / "alone" / "a.safetensors", None)
    watched = trained(tmp_path / "a.safetensors", Monitor(suite, "digits?part=calibration", every=2, limit=16, store=tmp_path / "s"))
    assert watched.losses == alone.losses
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "alone" / "a.safetensors").read_bytes()
    assert [one.epoch for one in watched.measured] == [2, 3]
    assert not (tmp_path / "a.best.safetensors").exists()
    log = [json.loads(line) for line in (tmp_path / "a.measured.jsonl").read_text().splitlines()]
    assert [Measured(**line) for line in log] == list(watched.measured)


def test_the_best_epoch_is_kept_the_earliest_of_equal_ones_and_reported_on_other_images(
    tmp_path: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    scores, weights = iter([0.2, 0.6, 0.6]), []

    def measure(self: Monitor, model: rv.Classifier, epoch: int) -> Measured:
        weights.append({name: one.clone() for name, one in model.model.state_dict().items()})
        return Measured(epoch, 1.0, next(scores))

    monkeypatch.setattr(Monitor, "measure", measure)
    done = trained(tmp_path / "a.safetensors", Monitor(suite, "digits", store=tmp_path / "s"), keep_best=True, stored="float32")
    assert done.epoch == 2
    assert all(torch.equal(one, weights[1][name]) for name, one in done.model.model.state_dict().items())
    assert done.accuracy == accuracy(rv.load_model(f"file:{tmp_path / 'a.safetensors'}"), rv.load_data("digits?part=evaluation"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.measured.jsonl", "a.safetensors", "w.yaml"]
    assert "--eval-limit 512 --every 1 --keep-best --out a.safetensors" in read_about(tmp_path / "a.safetensors").command


@pytest.mark.long
def test_a_killed_run_keeps_what_was_measured_of_whole_epochs(tmp_path: Path, suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, asked = iter([0.9, 0.1, 0.2, 0.3]), []

    def measure(self: Monitor, model: rv.Classifier, epoch: int) -> Measured:
        asked.append(epoch)
        return Measured(epoch, 1.0, next(scores))

    def stop(now: EpochProgress) -> None:
        if now.epoch == 2 and len(asked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "measure", measure)
    watch = Monitor(suite, "digits", store=tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "a.safetensors", watch, keep_best=True, progress=stop)
    done = trained(tmp_path / "a.safetensors", watch, keep_best=True)
    assert asked == [1, 2, 2, 3], "the second epoch was not whole"
    assert (done.epoch, [one.score for one in done.measured]) == (1, [0.9, 0.2, 0.3])


def test_a_suite_that_fails_says_so_with_the_epoch(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("{name: w, title: w, data: digits, scenarios: [{pgd: {eps: 4/255}}], metrics: [top1]}")
    model = rv.load_model("demo")
    with torch.no_grad():
        model.model.head.weight.fill_(float("nan"))
    with pytest.raises(BadParameter, match=r"the suite that watches training failed after epoch 2: .*finite"):
        Monitor(tmp_path / "w.yaml", "digits", limit=4, store=tmp_path / "s").measure(model.identify(), 2)


def test_bad_numbers_and_images_that_are_trained_on_are_refused(tmp_path: Path, suite: Path) -> None:
    for name in ("every", "limit"):
        with pytest.raises(BadParameter, match=f"a monitor's {name} is 0; it takes a whole number from 1"):
            Monitor(suite, store=tmp_path / "s", **{name: 0})
    for given, what in (("nope", "no suite is called 'nope'"), (suite, "no data is called 'nope'")):
        with pytest.raises(UsageError, match=what):
            Monitor(given, "nope", store=tmp_path / "s")
    with pytest.raises(BadParameter, match="keep_best chooses among the epochs that a monitor measures"):
        trained(tmp_path / "a.safetensors", None, keep_best=True)
    assert calibration_part("digits?ink=grey") == "digits?ink=grey&part=calibration"


def test_a_log_of_another_run_is_begun_anew(tmp_path: Path, suite: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(Measured(1, 1.0, 1.0)._asdict()) + "\n")
    assert Watch(Monitor(suite, store=tmp_path / "s"), tmp_path / "a.jsonl", tmp_path / "b", 0).measured == []


def test_a_file_that_cannot_be_written_is_told_before_training(tmp_path: Path, suite: Path) -> None:
    (tmp_path / "a.measured.jsonl").mkdir()
    monitor = Monitor(suite, "digits?part=calibration", limit=4, store=tmp_path / "s")
    with pytest.raises(BadParameter, match=r"a\.measured\.jsonl is a folder, and training writes a file of that name"):
        trained(tmp_path / "a.safetensors", monitor)
