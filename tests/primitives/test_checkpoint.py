import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.checkpoint import HEADER, About, rounded, save_checkpoint

ABOUT = About("vit_tiny_patch16_224", "img_size=32", 10, (0.5,) * 3, (0.5,) * 3, accuracy=0.975)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_header_holds_the_metadata_of_the_weights(tmp_path: Path) -> None:
    save_checkpoint(_model(), tmp_path / "a.safetensors", ABOUT)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    assert header["arch"] == "vit_tiny_patch16_224"
    assert header["accuracy"] == 0.975


def test_unknown_metadata_is_left_out() -> None:
    assert set(json.loads(About(arch="x").header()[HEADER])) == {"arch"}


@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_loaded_weights_equal_the_rounded_ones(tmp_path: Path, stored: str) -> None:
    save_checkpoint(_model(), tmp_path / "a.safetensors", ABOUT, stored)  # type: ignore[arg-type]
    back = load_file(tmp_path / "a.safetensors")
    for name, tensor in rounded(_model(), stored).state_dict().items():  # type: ignore[arg-type]
        assert torch.equal(back[name].to(tensor.dtype), tensor)


def test_rounding_leaves_its_argument_alone_and_is_idempotent() -> None:
    model, once = _model(), rounded(_model(), "float16")
    assert torch.equal(model[0].weight, _model()[0].weight)
    assert torch.equal(rounded(once, "float16")[0].weight, once[0].weight)
    assert not torch.equal(once[0].weight, model[0].weight)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(_model(), tmp_path / f"{name}.safetensors", ABOUT)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_weight_that_overflows_is_named(tmp_path: Path) -> None:
    model = _model()
    model[0].weight.data[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"'0\.weight'.*overflow float16; store them as float32"):
        save_checkpoint(model, tmp_path / "a.safetensors", ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_raises(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="cannot be written"):
        save_checkpoint(_model(), tmp_path / "nowhere" / "a.safetensors", ABOUT)


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    save_checkpoint(_model(), tmp_path / "a.safetensors", ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
