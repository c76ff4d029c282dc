"""Models without a head: loaded where that is asked for, never scored as classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import robustvit as rv
from robustvit.errors import BadParameter, CheckpointMismatch, ModelError
from robustvit.evaluation.loading import load_model
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

KWARGS = "img_size=32,patch_size=16,embed_dim=10,depth=1,num_heads=1"
HEADLESS = f"vit_tiny_patch16_224?weights=random&num_classes=0&crop_pct=1&kwargs={KWARGS}"
SUITE = {"name": "probe", "title": "A probe", "data": "digits", "scenarios": ["clean", {"fgsm": {"eps": "8/255"}}], "metrics": ["top1"]}


def suite(folder: Path) -> Path:
    (folder / "probe.yaml").write_text(yaml.safe_dump(SUITE))
    return folder / "probe.yaml"


def test_a_headless_model_gives_the_features_before_a_head() -> None:
    model, images = load_model(HEADLESS), torch.rand(2, 3, 32, 32)
    tokens = model.model.forward_features((images - model.mean) / model.std)
    assert model.card.headless
    assert torch.allclose(model(images), tokens[:, 0], atol=1e-6)
    assert not load_model(HEADLESS.replace("num_classes=0", "num_classes=4")).card.headless


def test_architectures_without_a_head_say_how_to_ask_for_features() -> None:
    with pytest.raises(ModelError, match=r"gives features, not logits.*\?num_classes=0.*\+knn\(data=DATA\)"):
        load_model("vit_small_patch16_224.dino?weights=random")
    assert load_model(f"vit_small_patch16_224.dino?weights=random&num_classes=0&kwargs={KWARGS}").outputs == 10


def test_features_as_many_as_the_classes_are_not_scored(tmp_path: Path) -> None:
    """Ten features, ten digits: the numbers alone would pass."""
    with pytest.raises(ModelError, match=r"data 'digits' has labels: model '.*' gives features, not logits.*knn\(data=DATA\).*--new-head"):
        rv.run(suite(tmp_path), [HEADLESS], limit=4, store=tmp_path / "store")
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(ModelError, match="attack 'fgsm' reads logits"):
        rv.perturb(load_model(HEADLESS), images, labels, "fgsm", eps="8/255")
    changed = [rv.perturb(load_model(HEADLESS), images, given, "ssp", eps="8/255", steps=2, layer=0) for given in (None, labels + 90)]
    assert (changed[0] != images).flatten(1).any(dim=1).all()
    assert torch.equal(*changed), "labels are not read"
    path = tmp_path / "b.safetensors"
    rv.save_checkpoint(load_model(HEADLESS), path)
    with pytest.raises(ModelError, match="has no head to train; add --new-head"):
        train_from_spec(start=f"file:{path}", data="digits", out=tmp_path / "v.safetensors", recipe=Recipe(epochs=1, batch_size=640))


def test_readouts_of_a_headless_model_and_of_other_classes_run(tmp_path: Path) -> None:
    colour = HEADLESS.replace("num_classes=0", "num_classes=6")
    models = [f"{base}+{readout}" for base in (HEADLESS, colour) for readout in (
        "knn(data=digits?split=train,k=3)", "linear(data=digits?split=train,shots=2)", "linear(data=digits?split=train)+quantize(bits=8)"
    )]  # fmt: skip
    done = rv.run(suite(tmp_path), models, limit=16, store=tmp_path / "store")
    assert not done.failed
    board = rv.leaderboard(tmp_path / "store")
    assert len(board[board["metric"] == "top1"]) >= 6
    with pytest.raises(ModelError, match="has 6 classes"):
        rv.run(suite(tmp_path), [colour, *models], limit=16, store=tmp_path / "other")


def test_a_readout_is_not_judged_on_what_it_learned_of(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"'knn' learned of 8 images .* data=digits\?part=calibration in the transform"):
        rv.run(suite(tmp_path), [f"{HEADLESS}+knn(data=digits,k=3)"], limit=8, store=tmp_path / "store")


def test_checkpoints_without_a_head_are_loaded_where_that_is_asked_for(tmp_path: Path) -> None:
    model = load_model(HEADLESS)
    save_file(model.model.state_dict(), tmp_path / "bare.safetensors")
    address = f"file:{tmp_path / 'bare.safetensors'}?arch=vit_tiny_patch16_224&crop_pct=1&kwargs={KWARGS}"
    with pytest.raises(CheckpointMismatch, match=r"It has no head.*add num_classes=0"):
        load_model(address)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_model(f"{address}&num_classes=0")(images), model(images))


def test_a_head_is_not_left_out_of_a_checkpoint_unasked(tmp_path: Path) -> None:
    headed = load_model(HEADLESS.replace("num_classes=0", "num_classes=4"))
    save_file(headed.model.state_dict(), tmp_path / "headed.safetensors")
    with pytest.raises(CheckpointMismatch, match="num_classes=0 is of checkpoints without a head"):
        load_model(f"file:{tmp_path / 'headed.safetensors'}?arch=vit_tiny_patch16_224&num_classes=0&kwargs={KWARGS}")


def test_a_headless_model_is_saved_and_given_a_head(tmp_path: Path) -> None:
    rv.save_checkpoint(load_model(HEADLESS), tmp_path / "b.safetensors")
    loaded = load_model(f"file:{tmp_path / 'b.safetensors'}")
    assert loaded.card.headless
    headed = rv.transformed(loaded, "new_head(classes=3)")
    assert not headed.card.headless
    assert headed.outputs == 3
