"""Published recipes: what they name is there, goes together, and is in the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from robustvit.errors import UnknownName
from robustvit.training.optimization import optimizer_of, set_rate
from robustvit.training.presets import PRESETS, preset
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
VIT = "vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains(name: str, tmp_path: Path) -> None:
    """On digits, for two steps."""
    given = preset(name)
    done = train_from_spec(
        VIT, "digits", out=tmp_path / "a.safetensors", defenses=given.defenses, recipe=replace(given.recipe, epochs=1, batch_size=640)
    )
    assert torch.isfinite(torch.tensor(done.losses)).all()


def test_every_preset_is_in_the_page_with_its_source() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, given in PRESETS.items():
        assert f"| `{name}` |" in page
        assert given.url in page


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no preset of training is called 'lite'; there are mo2022, light"):
        preset("lite")


def rates(recipe: Recipe, shares: list[float]) -> list[float]:
    optimizer, found = optimizer_of(nn.Linear(2, 2), recipe), []
    for share in shares:
        set_rate(optimizer, recipe, share)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_the_rate_falls_in_steps_or_to_a_last_share_of_the_highest() -> None:
    steps = Recipe(lr=0.4, warmup=0.5, optimizer="sgd", schedule="steps")
    assert rates(steps, [0.25, 0.5, 0.87, 0.875, 0.949, 0.95, 0.99]) == pytest.approx([0.2, 0.4, 0.4, 0.04, 0.04, 0.004, 0.004])
    cosine = Recipe(lr=0.4, warmup=0.0, final=0.1)
    assert rates(cosine, [0.0, 0.5, 1.0]) == pytest.approx([0.4, 0.22, 0.04])
    assert isinstance(optimizer_of(nn.Linear(2, 2), steps), torch.optim.SGD)
    assert optimizer_of(nn.Linear(2, 2), steps).defaults["momentum"] == 0.9
