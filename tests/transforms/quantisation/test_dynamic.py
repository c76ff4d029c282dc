"""Dynamic int8: what layers are given is on a grid of the row's own, in every model that calls its layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import timm
import torch
import vits
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustvit.errors import HostRefused
from robustvit.primitives.quantisation.quantised_inputs import RowQuantiser, call_projections
from robustvit.primitives.surgery.modules import replace_layer
from robustvit.transforms.low_rank import low_rank
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.quantisation.weights import quantize


class Given(TorchFunctionMode):
    """Notes what every product with weights is given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear: list[Tensor] = []
        self.convolutions: list[Tensor] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is nn.functional.linear:
            self.linear.append(args[0])
        if function is torch.conv2d:
            self.convolutions.append(args[0])
        return function(*args, **(kwargs or {}))


def given(model, rows: int = 3) -> Given:
    with Given() as mode, torch.no_grad():
        model(vits.images(rows))
    return mode


def distance_to_grid(values: Tensor, bits: int, axes: tuple[int, ...]) -> float:
    """How far values are from whole multiples of (largest absolute value) / (2^(bits − 1) − 1), in steps."""
    most = values.abs().amax(dim=axes, keepdim=True)
    codes = values.double() / torch.where(most == 0, 1.0, most).double() * (2 ** (bits - 1) - 1)
    return float((codes - codes.round()).abs().max())


@pytest.mark.parametrize(("make", "layers"), [(vits.vit, 13), (vits.swin, 14), (vits.HuggingFace, 19), (vits.HOSTS["eva"], 9)])
@pytest.mark.parametrize("bits", [8, 4])
def test_every_layer_is_given_tokens_of_a_grid_of_their_own(make, layers, bits) -> None:
    found = given(dynamic_int8(vits.made(make), bits=bits))
    assert len(found.linear) == layers
    assert len(found.convolutions) == 1
    assert max(distance_to_grid(values, bits, (-1,)) for values in found.linear) < 1e-3
    assert distance_to_grid(found.convolutions[0], bits, (1, 2, 3)) < 1e-3
    assert max(distance_to_grid(values, bits, (-1,)) for values in given(vits.made(make)).linear) > 0.3


def test_a_scale_for_all_tokens_of_an_image() -> None:
    found = given(dynamic_int8(vits.made(vits.vit), row="sample"))
    assert max(distance_to_grid(values, 8, tuple(range(1, values.dim()))) for values in found.linear) < 1e-3
    assert max(distance_to_grid(values, 8, (-1,)) for values in found.linear) > 0.3


def test_a_row_is_rounded_by_its_own_largest_value() -> None:
    rows = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 40.0])[:, None, None]
    found = RowQuantiser(8, "token", "none")(rows)
    for image, token in np.ndindex(2, 5):
        row = rows[image, token].double().numpy()
        scale = np.abs(row).max() / 127
        assert np.allclose(found[image, token], np.rint(row / scale) * scale, atol=1e-5)
    assert torch.equal(RowQuantiser(8, "token", "none")(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def test_weights_are_those_of_weight_quantisation() -> None:
    host = vits.made(vits.vit)
    found, wanted = dynamic_int8(host).state_dict(), quantize(host).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("row", ["token", "sample"])
def test_error_falls_fourfold_with_two_bits(row) -> None:
    host, pixels = vits.made(vits.vit, sharp=1.0), vits.images(4)
    errors = [float((dynamic_int8(host, bits=bits, row=row)(pixels) - host(pixels)).abs().mean()) for bits in (6, 8, 10, 12)]
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert all(2.5 < ratio < 6.5 for ratio in ratios), ratios


@pytest.mark.parametrize(("name", "more"), [
    ("beit_base_patch16_224", {"depth": 1}), ("eva02_tiny_patch14_224", {"depth": 1}),
    ("swinv2_tiny_window8_256", {"depths": (1, 1), "num_heads": (3, 6)}),
])  # fmt: skip
def test_separate_biases_of_a_projection_become_its_own(name, more) -> None:
    host = timm.create_model(name, num_classes=3, **more).eval()
    for parameter in host.parameters():
        nn.init.normal_(parameter, std=0.05)
    pixels = torch.rand(1, 3, *host.default_cfg["input_size"][1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = host(pixels)
        call_projections(host)
        assert torch.equal(host(pixels), before)
    assert not any(getattr(part, "q_bias", None) is not None for part in host.modules())


def test_a_model_that_computes_with_a_layer_that_it_does_not_call_is_refused() -> None:
    with pytest.raises(HostRefused, match=r"'toy' computes with 6 of them without calling them.*blocks\.layers\.0\.self_attn\.out_proj"):
        dynamic_int8(vits.made(vits.Torchs))


def test_a_layer_that_nothing_uses_is_left_alone() -> None:
    host = vits.made(vits.vit)
    host.model.spare = nn.Linear(3, 3)
    made = dynamic_int8(host)
    assert len(given(made).linear) == 13
    assert torch.equal(made.model.spare.weight, host.model.spare.weight)


def test_quantised_inputs_can_be_quantised_again() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    fine = dynamic_int8(host, bits=16)
    both = dynamic_int8(fine, bits=4)
    assert max(distance_to_grid(values, 4, (-1,)) for values in given(both).linear) < 1e-3
    assert torch.allclose(both(pixels), dynamic_int8(host, bits=4)(pixels), atol=0.5)
    assert len(fine.model.blocks[0].mlp.fc1._modules) == 1


def test_a_layer_that_quantises_its_inputs_is_not_replaced_in_silence() -> None:
    made = dynamic_int8(vits.made(vits.vit))
    with pytest.raises(HostRefused, match=r"layer 'head' quantises what it is given, which its replacement would not"):
        replace_layer(made.model, "head", nn.Linear(24, 5))
    with pytest.raises(HostRefused, match=r"'low_rank' does not take 'toy': .*quantise after this transform"):
        low_rank(made, rank_share=0.25)
    both = dynamic_int8(low_rank(vits.made(vits.vit), rank_share=0.25))
    assert len(given(both).linear) == 13 + 12  # each layer of a block is two
    assert max(distance_to_grid(values, 8, (-1,)) for values in given(both).linear) < 1e-3
