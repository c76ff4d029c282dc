"""The speed of a machine: learned from runs, kept, and used for what is like it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from exact import linear

import robustvit as rv
from robustvit.evaluation.cost import rates
from robustvit.evaluation.cost.estimate import estimate
from robustvit.evaluation.loading import load_model
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.primitives.classifier import Classifier
from robustvit.spec.suite_file import load_suite

GIGA = 1_000_000_000
TEXT = "name: s\ntitle: S\ndata: digits\nscenarios: [clean, fog: {severity: 3}, pgd: {eps: 4/255, steps: 10}]\nmetrics: [top1]\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_learned_is_the_speed_by_hand() -> None:
    speeds, demo = rates.Speeds(), load_model("demo")
    speeds.learn(demo, GIGA, 2.0, 100, 50.0)  # 100 images of 2 passes of a G in 50 s: 4 G a second
    found = speeds.rate(demo, GIGA)
    assert (found.macs, found.factor) == (pytest.approx(4 * GIGA), 1.3)
    speeds.learn(demo, GIGA, 1.0, 300, 300.0)  # 1 G a second; by images (100 · 0.25 + 300 · 1) / 400 s a G
    assert speeds.rate(demo, GIGA).macs == pytest.approx(GIGA / (325 / 400))


def test_the_less_alike_the_less_sure() -> None:
    speeds, demo = rates.Speeds(), load_model("demo")
    assert speeds.rate(demo, GIGA).factor == 5.0
    assert "no model was run here yet" in speeds.rate(demo, GIGA).origin
    speeds.learn(demo, GIGA, 1.0, 100, 100.0)
    assert [speeds.rate(demo, macs).factor for macs in (GIGA, 2 * GIGA, 8 * GIGA)] == [1.3, 1.3, 2.0]
    assert speeds.rate(linear()[0], GIGA).factor == 3.0
    other = load_model("demo", precision="bfloat16")
    assert speeds.rate(other, GIGA).factor == 5.0


def test_the_speed_of_a_far_smaller_model_tells_nothing() -> None:
    speeds, demo = rates.Speeds(), load_model("demo")
    speeds.learn(linear()[0], GIGA // 1000, 1.0, 100, 100.0)
    found = speeds.rate(demo, GIGA)
    assert (found.factor, "no model of about 1 G MACs was run here yet" in found.origin) == (5.0, True)
    assert found.macs > 100 * GIGA / 1000
    assert speeds.rate(demo, GIGA // 100).factor == 3.0


def test_speeds_are_kept(cache: Path) -> None:
    speeds, demo = rates.Speeds(), load_model("demo")
    speeds.learn(demo, GIGA, 1.0, 100, 50.0)
    speeds.learn_beside("fog", (32, 32), 100, 3.0)
    rates.keep(speeds)
    again = rates.of_this_machine()
    assert again.rate(demo, GIGA).macs == pytest.approx(2 * GIGA)
    assert [again.beside("fog", (side, side)) for side in (32, 64)] == [0.03, None]


def test_a_corruption_that_took_no_time_beside_the_model_is_known(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    plan, demo, speeds = make(load_suite(tmp_path / "s.yaml"), ["demo"], None, Settings(limit=192)), load_model("demo"), rates.Speeds()
    speeds.learn(demo, GIGA, 1.0, 100, 50.0)
    speeds.learn_beside("fog", demo.size, 100, -3.0)  # other work while clean images were timed
    rates.keep(speeds)
    assert rates.of_this_machine().beside("fog", demo.size) == 0.0
    assert estimate(plan, {}).unknown == ()


def test_a_damaged_file_counts_as_none(cache: Path) -> None:
    cache.mkdir(exist_ok=True)
    wrong = ('{"version": 1, "models": {"a | b | 3": ["x"]}, "scenarios": {}}', '{"version": 1, "models": 3, "scenarios": {}}')
    for text in ("", "[]", "{}", *wrong):
        (cache / "speeds.json").write_text(text)
        assert not rates.of_this_machine().models


def test_a_run_teaches_and_the_next_plan_is_sure_and_near(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    suite = load_suite(tmp_path / "s.yaml")
    before = estimate(make(suite, ["demo"], None, Settings(limit=192)), {})
    assert before.factor == 5.0
    assert before.unknown == ("corruptions that were not made here yet",)
    done = rv.run(suite, ["demo"], store=tmp_path / "r", limit=192)
    after = estimate(make(suite, ["demo"], None, Settings(limit=192)), {})
    assert (after.factor, after.unknown) == (1.3, ())
    assert after.seconds is not None
    assert done.seconds / 8 < after.seconds < 8 * done.seconds  # other work on this machine may be in between
    assert re.search(r"give or take a factor of 1\.3 \(from a model like it, \d+ images\)\.", after.sentence)


def test_a_plan_by_macs_computes_nothing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    made = make(load_suite(tmp_path / "s.yaml"), ["demo"], None, Settings(limit=50))
    calls: list[int] = []
    part = made.planned[0].model
    assert part is not None
    own = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", lambda self, images: calls.append(len(images)) or own(self, images))
    assert estimate(made, {}).seconds
    assert not calls
    assert estimate(made, {}, measure=True).factor == 1.0
    assert calls


def test_the_estimate_is_macs_over_speed_by_hand(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    demo = load_model("demo")
    made = make(load_suite(tmp_path / "s.yaml"), ["demo"], None, Settings(limit=100))
    macs = rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "r", limit=4) and next(
        json.loads(path.read_text())["models"]["demo"]["macs"] for path in (tmp_path / "r" / "runs").glob("*.json")
    )
    speeds = rates.Speeds()
    speeds.learn(demo, macs, 1.0, 100, 1.0)  # 10 ms an image
    speeds.learn_beside("fog", (32, 32), 100, 0.5)  # 5 ms
    rates.keep(speeds)
    passes = 1 + 1 + (1 + 10 * 3.4)  # clean, fog, and pgd, whose images are predicted as well
    assert estimate(made, {}).seconds == pytest.approx(100 * (0.01 * passes + 0.005), rel=0.03)
