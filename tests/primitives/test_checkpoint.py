import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

from robustvit.errors import ModelError
from robustvit.primitives.checkpoint import HEADER, About, checkpoint_bytes, rounded

ABOUT = About("vit_tiny_patch16_224", "img_size=32", 10, (0.5,) * 3, (0.5,) * 3, accuracy=0.975)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_header_holds_the_metadata_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(checkpoint_bytes(_model(), ABOUT))
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    assert header["arch"] == "vit_tiny_patch16_224"
    assert header["accuracy"] == 0.975


def test_unknown_metadata_is_left_out() -> None:
    assert set(json.loads(About(arch="x").header()[HEADER])) == {"arch"}


@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_loaded_weights_equal_the_rounded_ones(stored: str) -> None:
    back = load(checkpoint_bytes(_model(), ABOUT, stored))  # type: ignore[arg-type]
    for name, tensor in rounded(_model(), stored).state_dict().items():  # type: ignore[arg-type]
        assert torch.equal(back[name].to(tensor.dtype), tensor)


def test_rounding_leaves_its_argument_alone_and_is_idempotent() -> None:
    model, once = _model(), rounded(_model(), "float16")
    assert torch.equal(model[0].weight, _model()[0].weight)
    assert torch.equal(rounded(once, "float16")[0].weight, once[0].weight)
    assert not torch.equal(once[0].weight, model[0].weight)


def test_the_same_model_gives_the_same_bytes() -> None:
    assert checkpoint_bytes(_model(), ABOUT) == checkpoint_bytes(_model(), ABOUT)


def test_a_weight_that_overflows_is_named() -> None:
    model = _model()
    model[0].weight.data[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"'0\.weight'.*overflow float16: store them as float32, or, .* take a lower lr"):
        checkpoint_bytes(model, ABOUT)
