"""What attacks find of a quantised model: with straight-through gradients they succeed, and without any their cell fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import robustvit as rv
from robustvit.results.leaderboard import leaderboard
from robustvit.transforms.quantisation.dynamic import dynamic_int8

SUITE = """name: t
title: t
data: digits
transforms: {}
scenarios: [clean, {{pgd: {{eps: 8/255, steps: 5}}}}]
metrics: [top1, robust_accuracy]
"""


def board(folder: Path, transforms: str):
    (folder / "t.yaml").write_text(SUITE.format(transforms))
    done = rv.run(folder / "t.yaml", ["demo"], store=folder / "s", limit=32)
    rows = leaderboard(folder / "s")
    return done, rows[rows["transforms"] != ""].set_index(["scenario", "metric"])


@pytest.mark.parametrize("name", ["dynamic_int8", "log2"])
def test_an_attack_on_rounding_without_a_policy_fails_its_cell(tmp_path, name) -> None:
    done, found = board(tmp_path, f"[[{name}: {{gradient: none}}]]")
    assert [("zero or missing" in reason, "square" in reason) for reason in done.failed.values()] == [(True, True)]
    assert found.loc[("pgd", "robust_accuracy"), "status"] == "failed"
    assert found.loc[("clean", "top1"), "value"] > 90


@pytest.mark.parametrize("name", ["dynamic_int8", "log2"])
def test_an_attack_through_straight_through_gradients_succeeds(tmp_path, name) -> None:
    done, found = board(tmp_path, f"[[{name}: {{bits: 8}}]]")
    assert not done.failed
    assert found.loc[("pgd", "robust_accuracy"), "value"] < found.loc[("clean", "top1"), "value"] - 30


@pytest.mark.parametrize("bits", [4, 8])
def test_a_policy_changes_no_prediction(bits) -> None:
    host = rv.load_model("demo")
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    straight, hard = (dynamic_int8(host, bits=bits, gradient=gradient) for gradient in ("straight-through", "none"))
    assert torch.equal(straight(pixels), hard(pixels))
    assert (straight.gradient, hard.gradient) == ("straight-through", "absent")
