"""Victims: what `robustvit train --from MODEL --tuning …` writes, loaded again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import robustvit as rv
from robustvit.cli.app import app
from robustvit.errors import ModelError, UnknownName, UsageError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.surgery.backbones import share_changed
from robustvit.training.defending import tuned_by
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

KWARGS = "img_size=32,patch_size=16,embed_dim=8,depth=2,num_heads=1"
RECIPE = Recipe(epochs=1, batch_size=640, lr=0.05, weight_decay=0.5)  # two steps
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("backbone") / "b.safetensors"
    model = rv.load_model(f"vit_tiny_patch16_224?weights=random&num_classes=4&crop_pct=1&kwargs={KWARGS}")
    rv.save_checkpoint(model, file)
    return f"file:{file}"


def tuned(backbone: str, out: Path, tuning: str, **options) -> rv.Classifier:
    if tuning.startswith("lora"):
        pytest.importorskip("peft", reason="peft (the extra [peft]) is not installed")
    done = train_from_spec(
        start=backbone, data="digits", out=out, defenses=(*tuned_by(tuning), "plain"), recipe=RECIPE, new_head=True, **options
    )
    loaded = load_model(f"file:{out}")
    assert torch.equal(loaded(IMAGES), done.model(IMAGES))
    return loaded


@pytest.mark.parametrize(
    ("tuning", "changed"), [("full", 0.9), ("linear", 0), ("lora(rank=2)", 0.01), ("adapter", 0), ("side(width=8)", 0)]
)
def test_a_victim_is_loaded_by_its_path_and_has_its_backbones_frozen_weights(
    backbone: str, tmp_path: Path, tuning: str, changed: float
) -> None:
    victim, own = tuned(backbone, tmp_path / "v.safetensors", tuning), load_model(backbone)
    share = share_changed(victim, own)
    assert share == 0 if changed == 0 else changed < share <= (1 if tuning == "full" else 0.5)
    assert victim.card.backbone == (backbone, own.card.fingerprint)
    assert victim.outputs == 10


def test_frozen_weights_are_in_the_file_once(backbone: str, tmp_path: Path) -> None:
    for tuning in ("side(width=8)", "adapter(width=4)"):
        victim = tuned(backbone, tmp_path / "v.safetensors", tuning)
        sizes = [tuple(one.shape) for one in victim.model.state_dict().values()]
        assert sizes.count((24, 8)) == 2, "queries, keys and values of both blocks"


def test_weights_that_float16_would_round_are_written_as_float32(backbone: str, tmp_path: Path) -> None:
    tuned(backbone, tmp_path / "a.safetensors", "linear")
    tuned(backbone, tmp_path / "b.safetensors", "full")
    assert (tmp_path / "a.safetensors").stat().st_size > 1.5 * (tmp_path / "b.safetensors").stat().st_size
    rv.save_checkpoint(load_model(backbone), tmp_path / "half.safetensors", stored="float16")
    tuned(f"file:{tmp_path / 'half.safetensors'}", tmp_path / "d.safetensors", "linear")
    assert (tmp_path / "d.safetensors").stat().st_size < 1.2 * (tmp_path / "b.safetensors").stat().st_size
    rounded = tuned(backbone, tmp_path / "c.safetensors", "linear", stored="float16")
    assert share_changed(rounded, load_model(backbone)) > 0.5


def test_a_tuned_model_is_tuned_again(backbone: str, tmp_path: Path) -> None:
    first = tuned(backbone, tmp_path / "a.safetensors", "adapter(width=4)")
    second = tuned(f"file:{tmp_path / 'a.safetensors'}", tmp_path / "b.safetensors", "linear")
    assert share_changed(second, first) == 0
    assert [spec.name for spec in second.card.identity.get("surgery")] == ["new_head", "adapter", "new_head"]


def test_other_classes_need_a_new_head_and_the_message_says_so(backbone: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 4 classes, data 'digits' has 10.*--new-head"):
        train_from_spec(start=backbone, data="digits", out=tmp_path / "v.safetensors", recipe=RECIPE)
    assert not list(tmp_path.iterdir())


def test_names_of_tunings_are_checked() -> None:
    assert tuned_by("full") == ()
    assert tuned_by("side(width=8)") == ("side(width=8)",)
    with pytest.raises(
        UnknownName, match=r"no tuning is called 'linaer'\. Did you mean 'linear'\? There are full, adapter, linear, lora, side"
    ):
        tuned_by("linaer")
    with pytest.raises(UnknownName, match="no tuning is called 'trades'"):
        tuned_by("trades(eps=4/255)")


@pytest.mark.parametrize("option", [("--tuning", "linear"), ("--new-head",)])
def test_tuning_is_of_a_model_to_start_from(option: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", *option, "--out", str(tmp_path / "v.safetensors")])
    assert isinstance(done.exception, UsageError)
    assert "give --from" in str(done.exception)


def test_the_command_in_the_file_makes_the_same_file(backbone: str, tmp_path: Path) -> None:
    victim = tuned(backbone, tmp_path / "v.safetensors", "adapter(width=4)")
    command = victim.card.notes["command"]
    assert "--new-head" in command
    assert "adapter(width=4)" in command
    before = (tmp_path / "v.safetensors").read_bytes()
    words = shlex.split(command)[1:]
    words[words.index("--out") + 1] = str(tmp_path / "v.safetensors")
    done = CliRunner().invoke(app, [*words, "-q"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "v.safetensors").read_bytes() == before
