"""Pruned models as a user makes them: by name, with what they learn, and as checkpoints whose sizes depend on weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import robustvit as rv
from robustvit.errors import CheckpointMismatch, GradientAbsent, ModelError
from robustvit.evaluation.cost.macs import count
from robustvit.models.checkpoint import read_about

CALIBRATION = "digits?part=calibration"


def images(rows: int = 3) -> Tensor:
    return torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def demo():
    return rv.load_model("demo")


@pytest.mark.parametrize("pipeline", [
    "magnitude(amount=0.3)", "magnitude(layers=[qkv,mlp.fc1],scope=layer)", "semi_structured", "dimap", "block_pruning(block=16)",
    "block_pruning(block=16,allocation=equal-slope)", "low_rank", "low_rank(budget=0.6)", "head_pruning",
    "head_pruning(amount=0.4,scope=global)", "weight_sharing", "weight_sharing(repeat=4,start=first)",
    f"head_pruning(importance=taylor,samples=16,scope=global,amount=0.3,calibration={CALIBRATION})",
    f"block_pruning(importance=taylor,block=16,samples=16,calibration={CALIBRATION})",
    f"xprune(keep=0.5,samples=32,epochs=1,calibration={CALIBRATION})",
])  # fmt: skip
def test_a_pipeline_is_learned_saved_and_loaded_to_the_bit(demo, tmp_path: Path, pipeline: str) -> None:
    made = rv.transformed(demo, pipeline)
    assert not torch.equal(made(images()), demo(images()))
    rv.save_checkpoint(made, tmp_path / "a.safetensors")
    loaded = rv.load_model(f"file:{tmp_path / 'a.safetensors'}")
    assert torch.equal(loaded(images()), made(images()))


@pytest.mark.parametrize("pipeline", [
    f"head_pruning(importance=taylor,samples=16,calibration={CALIBRATION})", f"xprune(samples=16,calibration={CALIBRATION})",
    f"block_pruning(importance=taylor,block=16,samples=16,calibration={CALIBRATION})",
])  # fmt: skip
def test_what_has_no_gradient_is_not_learned_from(demo, pipeline: str) -> None:
    with pytest.raises(GradientAbsent, match=r"learns from gradients, and 'demo\+log2\(.*' has none"):
        rv.transformed(rv.transformed(demo, "log2(gradient=none)"), pipeline)


@pytest.mark.parametrize(
    "pipeline", ["tome(r=2)+head_pruning(amount=0.5)", "head_pruning(amount=0.5)+tome(r=2)", "low_rank(budget=0.6)+tome(r=2)"]
)
def test_tokens_are_reduced_before_or_after(pipeline: str) -> None:
    model = rv.load_model(f"demo+{pipeline}")
    assert bool(torch.isfinite(model(images())).all())
    plain = rv.load_model("demo+tome(r=2)")
    assert float((model(images()) - plain(images())).abs().max()) > 1e-3
    assert count(model.model, (32, 32)).macs < count(plain.model, (32, 32)).macs


@pytest.mark.parametrize(("pipeline", "name", "shape"), [
    ("low_rank(budget=0.6)", "blocks.0.attn.qkv.down.weight", (97, 96)),
    ("low_rank(budget=0.6)", "blocks.0.attn.qkv.down.weight", (3, 95)),
    ("head_pruning(amount=0.4,scope=global)", "blocks.0.attn.qkv.weight", (31, 96)),
    ("head_pruning(amount=0.4,scope=global)", "blocks.0.attn.qkv.weight", (96 * 30, 96)),
])  # fmt: skip
def test_sizes_that_no_such_model_has_are_refused(demo, tmp_path: Path, pipeline: str, name: str, shape: tuple[int, int]) -> None:
    file = tmp_path / "a.safetensors"
    rv.save_checkpoint(rv.transformed(demo, pipeline), file)
    header, tensors = read_about(file).header(), load_file(file)
    assert tensors[name].shape != shape
    save_file(tensors | {name: torch.zeros(shape)}, file, metadata=header)
    with pytest.raises((CheckpointMismatch, ModelError), match="does not fit"):
        rv.load_model(f"file:{file}")
