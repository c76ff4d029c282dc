"""The figures of the device script: turns by a stand-in clock, ratios and means, parity, and parts that fail or come too late."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustvit as rv

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import _measuring  # noqa: E402 - scripts import each other by name
import _parity  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))


class Clock:
    """A clock that works set forward."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, list[str]()

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Any:
        """A work that takes one after the other so many seconds."""
        left = iter(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += next(left)

        return call


def test_turns_begin_with_the_next_work_and_the_first_call_is_not_counted() -> None:
    clock = Clock()
    works = {"a": clock.work("a", 100, 1, 2, 3), "b": clock.work("b", 100, 10, 20, 30)}
    found = _measuring.Timer("cpu", clock).in_turn(works, 3)
    assert found == {"a": [1, 2, 3], "b": [10, 20, 30]}
    assert "".join(clock.calls) == "ab" + "ab" + "ba" + "ab"


def test_without_warming_up_the_first_call_counts() -> None:
    clock = Clock()
    assert _measuring.Timer("cpu", clock).in_turn({"a": clock.work("a", 7)}, 1, warm=False) == {"a": [7]}


def test_a_geometric_mean_is_the_root_of_a_product() -> None:
    assert _measuring.geometric_mean([1, 4, 16]) == pytest.approx(4)
    for bad in ([], [1, 0], [2, -1]):
        with pytest.raises(ValueError, match="geometric mean"):
            _measuring.geometric_mean(bad)


def test_a_ratio_is_the_median_of_the_turns_ratios() -> None:
    assert _measuring.ratio([1, 10, 3], [1, 20, 2]) == 1.0  # that of the medians would be 1.5


def test_a_rate_is_that_of_the_median_turn() -> None:
    assert _measuring.rate(30, [1, 100, 2]) == 15


def rows(*values: int, clock: Clock | None = None, raises: bool = False) -> Any:
    """A part of so many rows, each of which takes a minute of the clock."""

    def part() -> Iterator[dict[str, Any]]:
        for value in values:
            if clock:
                clock.now += 60
            yield {"value": value}
        if raises:
            raise RuntimeError("no\nsuch thing")

    return part


def test_a_part_that_raises_is_told_in_a_line_and_the_next_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _measuring.Run({"gpu": "G"}, 10, tmp_path / "f.json", Clock())
    run.do("one", rows(1, raises=True))
    run.do("two", rows(2))
    assert run.failed == ["one"]
    assert "failed: RuntimeError: no such thing\n" in capsys.readouterr().out
    kept = json.loads((tmp_path / "f.json").read_text())
    assert kept["machine"] == {"gpu": "G"}
    assert [kept["parts"][name]["rows"] for name in ("one", "two")] == [[{"value": 1}], [{"value": 2}]]


def test_what_comes_after_the_budget_is_skipped_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    run = _measuring.Run({}, 2.5, None, clock)
    run.do("one", rows(1, 2, 3, 4, clock=clock))
    run.do("two", rows(5, clock=clock))
    assert [len(part["rows"]) for part in run.parts.values()] == [3, 0]
    out = capsys.readouterr().out
    assert "cut: after 3 rows the 2.5 minutes are spent" in out
    assert "skipped: the 2.5 minutes are spent" in out
    assert not run.failed


def test_a_difference_is_in_levels_and_shares_are_of_pixels() -> None:
    one = rv.pixels(np.full((1, 2, 2, 1), 100, np.uint8))
    other = one.clone()
    other[0, 0, 0, 0] += 3 / 255
    other[0, 0, 0, 1] += 0.25 / 255
    found = _parity.difference(one, other)
    assert found.largest == pytest.approx(3, abs=1e-4)
    assert (found.equal, found.bitwise) == (0.75, 0.5)


CPU = torch.device("cpu")


def test_a_device_beside_itself_is_equal_in_every_draw_and_quality() -> None:
    assert {row["verdict"] for row in _parity.draw_parity(3, 101, CPU, CPU)} == {"equal"}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for row in _parity.codec_parity(images, CPU, CPU):
        assert (row["equal bits"], row["equal to Pillow"]) == (1.0, 1.0)


def test_corruptions_that_differ_or_raise_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    images, calls = np.zeros((1, 32, 32, 3), np.uint8), list[str]()

    def perturb(model: None, pixels: Tensor, labels: None, name: str, **params: int) -> Tensor:
        calls.append(f"{name} {params.get('severity')}")
        if name == "flip":
            raise RuntimeError("no kernel")
        return pixels + len(calls) / 255

    monkeypatch.setattr(rv, "perturb", perturb, raising=False)
    found = _parity.corruption_parity(images, CPU, CPU, ["fog", "flip"])
    first, second = next(found), next(found)
    assert (first["largest difference, levels"], first["equal uint8"]) == (pytest.approx(1), 0.0)
    assert second["note"] == "raised RuntimeError: no kernel"
    with pytest.raises(RuntimeError, match="1 corruptions raised: flip"):
        next(found)
    assert calls == ["fog 3", "fog 3", "flip None"]


class Counting(nn.Module):
    """A model whose logits depend on the rows of its batch: by how much, for each number of rows."""

    def __init__(self, by: dict[int, float]) -> None:
        super().__init__()
        self.by = by

    def forward(self, images: Tensor) -> Tensor:
        first = images.flatten(1)[:, :1]
        return torch.cat((first, 0.25 - first + self.by.get(len(images), 0.0)), dim=1)


def test_smaller_tiles_are_equal_or_told_apart_by_logits_and_verdicts() -> None:
    model = rv.Classifier(Counting({2: 1e-3, 4: 10.0}), mean=0.0, std=1.0, size=32, name="counting", tile=8)
    images = torch.full((8, 3, 32, 32), 0.5)
    found = list(_parity.smaller_tiles("m", model, images, [1, 2, 4]))
    assert [row["verdict"] for row in found] == ["equal", "logits differ", "verdicts differ"]
    assert [(row["equal logits"], row["equal verdicts"]) for row in found] == [(8, 8), (0, 8), (0, 0)]
    assert found[1]["largest difference"] == pytest.approx(1e-3, rel=1e-3)
    assert model.tile == 8
