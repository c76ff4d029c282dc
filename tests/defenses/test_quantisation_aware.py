"""Fine-tuning quantised models: weights stay on their grids, and gradients are those of the rounded weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter
from robustvit.primitives.quantisation.quantised_weights import stored_weights
from robustvit.training.recipe import Recipe
from robustvit.training.run import TrainResult, train_from_spec

VIT = "vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"


def trained(out: Path, model: str, *defenses: str) -> TrainResult:
    return train_from_spec(model, "digits", out=out, defenses=defenses, recipe=Recipe(epochs=1, batch_size=640), stored="float32")


@pytest.mark.parametrize(("transform", "levels"), [
    ("quantize(bits=3)", 7), ("quantize(bits=3,symmetric=false)", 8), ("magnitude(amount=0.5)+quantize(bits=3)", 7),
    ("simulated_quantisation(calibration=digits?split=train,samples=8,weight_bits=3,activation_bits=8)", 7),
])  # fmt: skip
def test_weights_move_and_stay_on_their_grids(tmp_path: Path, transform: str, levels: int) -> None:
    before = rv.load_model(f"{VIT}+{transform}")
    after = trained(tmp_path / "a.safetensors", f"{VIT}+{transform}", "quantisation_aware").model
    loaded = rv.load_model(f"file:{tmp_path / 'a.safetensors'}")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), after(images))
    moved = 0
    for (layer, name, form), (old, _, _) in zip(stored_weights(loaded.model), stored_weights(before.model), strict=True):
        rows = getattr(layer, name).flatten(1)
        assert max(len(row.unique()) for row in rows) <= levels
        assert torch.allclose(form.rounded(rows.view_as(getattr(layer, name))), getattr(layer, name), atol=1e-6)
        moved += int((getattr(old, name) != getattr(layer, name)).sum())
    assert moved > 100
    if "magnitude" in transform:
        mask = before.model.blocks[0].mlp.fc1.weight_mask  # type: ignore[index, union-attr]
        assert torch.equal(loaded.model.blocks[0].mlp.fc1.weight_mask, mask)  # type: ignore[index, union-attr, arg-type]
        assert not loaded.model.blocks[0].mlp.fc1.weight[mask == 0].any()  # type: ignore[index, union-attr, operator]


def test_the_gradient_is_that_of_the_rounded_weights() -> None:
    model = rv.load_model(f"{VIT}+quantize(bits=3)").model.requires_grad_(True)
    fc = model.blocks[0].mlp.fc1  # type: ignore[index, union-attr]
    with torch.no_grad():
        fc.weight += 0.01 * torch.randn(fc.weight.shape, generator=torch.Generator().manual_seed(0))  # type: ignore[operator, arg-type]
    defense, images = rv.load_defense("quantisation_aware"), torch.rand(2, 3, 32, 32)
    baked = defense.export(defense.prepare(model))
    assert torch.equal(baked.eval()(images), model.eval()(images))  # type: ignore[operator]
    logits(baked, images).square().sum().backward()  # type: ignore[no-untyped-call]
    logits(model, images).square().sum().backward()  # type: ignore[no-untyped-call]
    off = fc.parametrizations.weight.original  # type: ignore[union-attr]
    assert torch.allclose(off.grad, baked.blocks[0].mlp.fc1.weight.grad, atol=1e-6)  # type: ignore[index, union-attr]
    assert not torch.equal(off, fc.weight), "the weight itself is not rounded"


def logits(model: nn.Module, images: Tensor) -> Tensor:
    found: Tensor = model(images)
    return found


def test_half_precision_stays_half(tmp_path: Path) -> None:
    after = trained(tmp_path / "a.safetensors", f"{VIT}+half_precision", "quantisation_aware").model
    for layer, name, _ in stored_weights(after.model):
        weight = getattr(layer, name)
        assert torch.equal(weight.to(torch.bfloat16).float(), weight)


def test_it_goes_with_adversarial_training_and_sharpness(tmp_path: Path) -> None:
    after = trained(tmp_path / "a.safetensors", f"{VIT}+quantize(bits=3)", "quantisation_aware", "pgd_at(eps=8/255,steps=1)", "sam").model
    assert max(len(row.unique()) for row in after.model.blocks[0].mlp.fc1.weight) <= 7  # type: ignore[index, union-attr]


def test_quantised_weights_are_not_trained_without_it_nor_others_with_it(tmp_path: Path) -> None:
    with pytest.raises(
        BadParameter, match=r"has weights of 4 bits, which plain steps would take off their grid; add --defense quantisation"
    ):
        trained(tmp_path / "a.safetensors", f"{VIT}+quantize(bits=4)", "plain")
    with pytest.raises(BadParameter, match=r"quantisation_aware trains a model with quantised weights, and this one has none"):
        trained(tmp_path / "a.safetensors", VIT, "quantisation_aware")
    assert not list(tmp_path.iterdir())
