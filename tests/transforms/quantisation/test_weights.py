"""Weight-only quantisation and half-precision weights: which weights, which values, and how many bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vits
from torch import nn
from torch.nn.utils import prune

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.quantisation.quantised_weights import WeightGrids, quantised_weight
from robustvit.transforms.pruning.magnitude import magnitude
from robustvit.transforms.quantisation.weights import half_precision, quantize

MATRICES = (nn.Linear, nn.Conv2d)


def layers(model) -> dict[str, nn.Module]:
    return {name: part for name, part in model.model.named_modules() if isinstance(part, MATRICES)}


def rounded_rows(weight: torch.Tensor, bits: int) -> np.ndarray:
    """Symmetric, a scale for each output channel, one number after another."""
    made = weight.detach().double().flatten(1).numpy().copy()
    for row in made:
        scale = np.abs(row).max() / (2 ** (bits - 1) - 1)
        for index, number in enumerate(row):
            row[index] = np.rint(number / scale) * scale
    return made


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_linear_layer_and_convolution_is_rounded_by_channel_and_nothing_else(bits) -> None:
    host = vits.made(vits.vit)
    made = quantize(host, bits=bits)
    found = layers(made)
    assert len(found) == 1 + 3 * 4 + 1
    for name, layer in layers(host).items():
        assert np.allclose(found[name].weight.flatten(1), rounded_rows(layer.weight, bits), atol=1e-6)
    rest = {key: value for key, value in host.state_dict().items() if key.removeprefix("model.").removesuffix(".weight") not in found}
    assert rest
    assert all(torch.equal(made.state_dict()[key], value) for key, value in rest.items())


def test_a_scale_for_a_tensor_and_for_groups() -> None:
    weight = torch.randn(5, 70, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 9, 70)
    whole = quantised_weight(weight, WeightGrids(4, "tensor"))
    assert np.allclose(whole, rounded_rows(weight.reshape(1, -1), 4).reshape(5, 70), atol=1e-5)
    groups = quantised_weight(weight, WeightGrids(4, "group", 32))
    for start, stop in ((0, 32), (32, 64), (64, 70)):
        assert np.allclose(groups[:, start:stop], rounded_rows(weight[:, start:stop], 4), atol=1e-5)


def test_finer_scales_and_more_bits_have_less_error() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(2)) * torch.rand(64, 1).add(0.01)
    errors = [
        float((weight - quantised_weight(weight, grids)).square().sum())
        for grids in (WeightGrids(4, "tensor"), WeightGrids(4, "channel"), WeightGrids(4, "group", 16), WeightGrids(8, "group", 16))
    ]
    assert errors == sorted(errors, reverse=True)
    assert len(set(errors)) == 4


def test_bytes_are_those_of_packed_codes_and_scales() -> None:
    host = vits.made(vits.vit)
    found = layers(quantize(host, bits=4, granularity="group", group=16))
    block = found["blocks.0.attn.qkv"]  # 72 x 24 weights, groups of 16 and 8, 72 biases
    assert block.weight_bytes() == 72 * 24 // 2 + 72 * 2 * 4 + 72 * 4
    with_zeros = layers(quantize(host, bits=3, symmetric=False))["blocks.0.attn.qkv"]
    assert with_zeros.weight_bytes() == 72 * 24 * 3 // 8 + 72 * 4 + 72 * 3 // 8 + 72 * 4
    assert layers(quantize(host, granularity="tensor"))["blocks.0.attn.qkv"].weight_bytes() == 72 * 24 + 4 + 72 * 4


def test_layers_are_still_of_their_class_and_say_their_bits() -> None:
    layer = layers(quantize(vits.made(vits.vit), bits=5))["head"]
    assert isinstance(layer, nn.Linear)
    assert type(layer).__name__ == "QuantisedLinear"
    assert "weight of 5 bits" in repr(layer)


def test_the_projection_within_torchs_attention_is_quantised() -> None:
    made = quantize(vits.made(vits.Torchs), bits=3)
    attention = made.model.blocks.layers[0].self_attn
    assert all(len(row.unique()) <= 7 for row in attention.in_proj_weight)
    assert all(len(row.unique()) <= 7 for row in attention.out_proj.weight)
    assert attention.weight_bytes() == 72 * 24 * 3 // 8 + 72 * 4 + 72 * 4


def test_a_layer_in_two_places_and_a_weight_of_two_layers_stay_shared() -> None:
    host = vits.made(vits.vit)
    host.model.blocks[1].mlp.fc1 = host.model.blocks[0].mlp.fc1
    host.model.blocks[1].mlp.fc2.weight = host.model.blocks[0].mlp.fc2.weight
    for made in (quantize(host, bits=4), half_precision(host)):
        first, second = made.model.blocks[0].mlp, made.model.blocks[1].mlp
        assert first.fc1 is second.fc1
        assert first.fc2.weight is second.fc2.weight
        assert not torch.equal(first.fc1.weight, host.model.blocks[0].mlp.fc1.weight)


def test_a_pruning_mask_stays() -> None:
    host = vits.made(vits.vit)
    prune.l1_unstructured(host.model.head, "weight", 0.5)
    layer = quantize(host, bits=4).model.head
    zeros = host.model.head.weight_mask == 0
    assert torch.equal(layer.weight_orig * layer.weight_mask == 0, zeros)
    assert np.allclose(layer.weight_orig, rounded_rows(host.model.head.weight, 4), atol=1e-6)
    assert layer.weight_bytes() == 60 // 2 + 120 // 8 + 5 * 4 + 5 * 4


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_half_precision_rounds_every_parameter_to_so_many_significant_bits(dtype, bits) -> None:
    host = vits.made(vits.layer_scale)
    made = half_precision(host, dtype=dtype)
    for (name, old), new in zip(host.model.named_parameters(), made.model.parameters(), strict=True):
        numbers = old.detach().double().numpy()
        least = -13 if dtype == "float16" else -125  # below it are subnormal numbers
        unit = 2.0 ** (np.maximum(np.frexp(numbers)[1], least) - bits)
        assert np.array_equal(np.rint(numbers / unit) * unit, new.double().numpy()), name
    stored = sum(part.weight_bytes() for part in made.model.modules() if hasattr(part, "weight_bytes"))
    assert stored == 2 * sum(parameter.numel() for parameter in host.model.parameters())


def test_a_weight_beyond_float16_is_refused() -> None:
    host = vits.made(vits.vit)
    with torch.no_grad():
        host.model.head.weight[0, 0] = 7e4
    with pytest.raises(HostRefused, match=r"'toy' has weights beyond the range of float16 in head\.weight"):
        half_precision(host, dtype="float16")
    assert bool(torch.isfinite(half_precision(host)(vits.images(1))).all())


def test_a_model_without_such_layers_is_refused() -> None:
    class Mean(nn.Module):
        def forward(self, pixels):
            return pixels.mean(dim=(2, 3))

    with pytest.raises(HostRefused, match="'quantize' quantises linear layers and convolutions, and 'toy' has none"):
        quantize(vits.made(Mean))


@pytest.mark.parametrize("first", ["quantise", "prune"])
def test_bytes_of_pruned_and_quantised_layers_are_those_in_either_order(first) -> None:
    host, bits = vits.made(vits.vit), 4
    made = magnitude(quantize(host, bits=bits)) if first == "quantise" else quantize(magnitude(host), bits=bits)
    for layer in (block.mlp.fc2 for block in made.model.blocks):
        kept = int(torch.count_nonzero(layer.weight))
        assert kept <= layer.weight_mask.sum()
        assert layer.weight_bytes() == -(-kept // 2) + 96 * 24 // 8 + 24 * 4 + 24 * 4


def test_bits_that_nothing_has_are_refused() -> None:
    with pytest.raises(BadParameter, match="bits is 20; it takes 2 to 16, or 32"):
        quantize(vits.made(vits.vit), bits=20)


def test_twice_is_as_good_as_once() -> None:
    once = quantize(vits.made(vits.vit))
    twice = quantize(once)
    for name, layer in layers(once).items():
        assert torch.allclose(layers(twice)[name].weight, layer.weight, rtol=1e-5, atol=0)
        assert layers(twice)[name].weight_bytes() == layer.weight_bytes()
