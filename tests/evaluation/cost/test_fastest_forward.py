"""The fastest forward mode: what gains time and changes no prediction, and what rows say of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.evaluation.cost import fastest_forward as module
from robustvit.evaluation.cost.fastest_forward import fastest_forward
from robustvit.primitives.inference.forward_modes import EAGER, ForwardMode
from robustvit.records.records import read
from robustvit.records.store import Store

IMAGES = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
MANY = 1e9
LAST = ("channels-last",)


class Clocked(nn.Module):
    """Takes a second of its own clock for a pass, and `last` in channels-last; adds `noise` to the logits there."""

    def __init__(self, last: float = 1.0, noise: Tensor | float = 0.0) -> None:
        super().__init__()
        self.last, self.noise, self.now, self.rows = last, noise, 0.0, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        last = not images.is_contiguous()
        self.now += self.last if last else 1.0
        self.rows.append(len(images))
        return images.mean(dim=(2, 3)) + (self.noise if last else 0.0)

    def chosen(self, passes: float = 0.0) -> ForwardMode:
        """With its own clock, which deep copies of it do not share."""
        model = rv.Classifier(self, mean=0.0, std=1.0, size=6, tile=8)
        return fastest_forward(model, IMAGES, passes, lambda: model.model.now)


@pytest.mark.parametrize(("last", "steps"), [(0.5, LAST), (0.94, LAST), (0.97, ()), (1.0, ()), (1.5, ())])
def test_a_step_is_taken_that_gains_five_percent(last: float, steps: tuple[str, ...]) -> None:
    assert Clocked(last).chosen() == ForwardMode(steps)


@pytest.mark.parametrize(
    ("noise", "reason"),
    [(torch.tensor([9.0, 0.0, 0.0]), "it changes 3 of 8 predictions"), (0.1, "logits differ by 0.06"), (1e-5, "")],
)
def test_a_step_that_changes_predictions_or_logits_is_left_out(noise: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = Clocked(0.1, noise).chosen()
    told = [one.message for one in caplog.records]
    if not reason:
        assert (found, told) == (ForwardMode(LAST), [])
        return
    assert found == EAGER
    assert len(told) == 1
    assert told[0].startswith(f"Clocked: channels-last is left out: {reason}")


def compiling(monkeypatch: pytest.MonkeyPatch, seconds: float, error: Exception | None = None) -> list[nn.Module]:
    """Compiled passes of Clocked take so long."""
    asked: list[nn.Module] = []

    def compiled(given: Any, **_: Any) -> Callable[[Tensor], Tensor]:
        asked.append(given)
        if error is not None:
            raise error

        def forward(images: Tensor) -> Tensor:
            found: Tensor = given(images)
            given.now += seconds - (given.last if not images.is_contiguous() else 1.0)
            return found

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    return asked


def test_steps_are_taken_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling(monkeypatch, 0.3)
    assert Clocked(0.5).chosen(MANY).steps == ("channels-last", "compiled")
    assert Clocked(2.0).chosen(MANY).steps == ("compiled",)
    assert Clocked(0.31).chosen(MANY).steps == LAST  # 0.3 is not 5 % faster than that


@pytest.mark.parametrize(("passes", "tried"), [(599, 0), (601, 1)])
def test_compiling_is_tried_where_passes_take_ten_times_as_long(monkeypatch: pytest.MonkeyPatch, passes: float, tried: int) -> None:
    assert len(compiling(monkeypatch, 0.1)) == 0
    asked = compiling(monkeypatch, 0.1)
    assert Clocked().chosen(passes).steps == ("compiled",) * tried
    assert len(asked) == tried


def test_without_a_compiler_all_is_as_before(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    compiling(monkeypatch, 0.1, RuntimeError("no\ncompiler"))
    with caplog.at_level(logging.INFO):
        assert Clocked(0.5).chosen(MANY) == ForwardMode(LAST)
    assert [one.message for one in caplog.records] == ["Clocked: compiled is left out: RuntimeError: no compiler"]


def test_the_probe_is_of_a_whole_tile_and_leaves_the_model_eager() -> None:
    model = rv.Classifier(Clocked(0.5), mean=0.0, std=1.0, size=6, tile=8)
    assert fastest_forward(model, IMAGES, 0, lambda: model.model.now).steps == LAST
    assert set(model.model.rows) == {8}
    assert model.forward_mode == EAGER


def test_a_model_that_raises_stays_eager() -> None:
    broken = Clocked(0.5)
    broken.noise = torch.zeros(5)  # of other shape than the logits
    assert broken.chosen() == EAGER
    broken.rows = None  # type: ignore[assignment]
    assert broken.chosen() == EAGER


@pytest.fixture
def last_is_fastest(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every model's mode is channels-last; notes the passes that were told."""
    told: list[float] = []

    def found(model: Any, images: Tensor, passes: float) -> ForwardMode:
        told.append(passes * model.tile)
        return ForwardMode(LAST)

    monkeypatch.setattr(module, "fastest_forward", found)
    return told


SUITE = """
name: s
title: Modes
data: digits
transforms: [[], [attention_temperature: {temperature: 2}]]
scenarios: [clean, fog: {severity: [1, 3]}, fgsm: {eps: 8/255}]
metrics: [top1]
"""


def test_rows_say_how_they_were_computed_and_are_those_of_eager_passes(
    tmp_path: Path, last_is_fastest: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    monkeypatch.setattr("robustvit.evaluation.requested.fastest_tile", lambda model: 16)

    def run(name: str, **settings: Any) -> dict[str, Any]:
        assert rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / name, limit=20, progress=False, **settings).failed == {}
        store = Store(tmp_path / name)
        return {cell: (store.describe(cell), store.files(cell)) for cell in store.cells()}

    eager, modes = run("eager", batch_size=16), run("modes", batch_size="auto")
    assert last_is_fastest == [60.0]  # of clean and two fogs, without transforms
    assert eager.keys() == modes.keys()
    for cell, (about, files) in modes.items():
        plain = about["scenario"]["name"] != "fgsm" and not about["transforms"]
        assert {file.about().get("forward") for file in files} == ({"channels-last"} if plain else {None}), about
        assert not any("forward" in file.about() for file in eager[cell][1])
        assert read(files)["pred"].tolist() == read(eager[cell][1])["pred"].tolist()
    assert run("modes", batch_size="auto").keys() == modes.keys()
    assert last_is_fastest == [60.0]  # nothing was left to compute


def test_rows_of_another_mode_are_checked_as_those_of_another_machine(tmp_path: Path, last_is_fastest: list[float]) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    for limit in (10, 20):
        done = rv.run(tmp_path / "s.yaml", ["demo"], store=tmp_path / "s", limit=limit, progress=False, batch_size="auto")
        assert done.failed == {}
    assert len(last_is_fastest) == 2
