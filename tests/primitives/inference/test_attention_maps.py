"""Attention maps, received attention and attention temperature, against the same numbers computed block by block."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import vits
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.attention_maps import forward_with_attention, probe_token_grid, received_attention
from robustvit.primitives.inference.attention_temperature import attention_temperature
from robustvit.primitives.inference.token_grid import TokenGrid


def by_hand(model: Classifier, pixels: Tensor, temperature: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    """timm's plain ViT, block by block."""
    vit, maps = model.model, []
    tokens = vit._pos_embed(vit.patch_embed((pixels - model.mean) / model.std))
    for block in vit.blocks:
        n, t, width = tokens.shape
        query, key, value = block.attn.qkv(block.norm1(tokens)).reshape(n, t, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        maps.append((query @ key.mT / (temperature * math.sqrt(width // 2))).softmax(dim=-1))
        tokens = tokens + block.attn.proj((maps[-1] @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return vit.forward_head(vit.norm(tokens)), maps


def slope(of, pixels: Tensor) -> Tensor:
    leaf = pixels.clone().requires_grad_()
    return torch.autograd.grad(of(leaf), leaf)[0]


@pytest.fixture(scope="module")
def vit() -> Classifier:
    return vits.made(vits.vit)


@pytest.mark.parametrize("make", vits.PLAIN.values(), ids=vits.PLAIN)
def test_capturing_attention_maps_changes_no_bit_of_the_logits_of_a_vit(make) -> None:
    model, pixels = vits.made(make), vits.images(6)
    tolerance = 1e-5 if make is vits.Torchs else 0.0  # torch's encoder takes another path where its attention weights are needed
    assert torch.allclose(forward_with_attention(model, pixels).logits, model(pixels), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("make", vits.PLAIN.values(), ids=vits.PLAIN)
def test_attention_weights_of_a_query_sum_to_one(make) -> None:
    found = forward_with_attention(vits.made(make), vits.images(6)).maps
    assert all(torch.allclose(layer.sum(dim=-1), torch.ones(())) and layer.shape[:2] == (6, 2) for layer in found)


def test_maps_equal_those_computed_by_hand(vit) -> None:
    pixels = vits.images(6)
    logits, maps = by_hand(vit, pixels)
    found = forward_with_attention(vit, pixels)
    assert torch.allclose(found.logits, logits, atol=1e-4)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found.maps, maps, strict=True))


def test_maps_of_torchs_encoder_equal_the_weights_that_its_first_layer_returns() -> None:
    model, pixels = vits.made(vits.Torchs), vits.images(3)
    tokens = model.model.embed((pixels - model.mean) / model.std).flatten(2).transpose(1, 2)
    _, weights = model.model.blocks.layers[0].self_attn(tokens, tokens, tokens, average_attn_weights=False)
    assert torch.allclose(forward_with_attention(model, pixels).maps[0], weights, atol=1e-5)


def test_a_model_in_float64_has_maps_in_float64() -> None:
    model, pixels = vits.made(vits.vit).double(), vits.images(3).double()
    logits, maps = by_hand(model, pixels)
    found = forward_with_attention(model, pixels)
    assert torch.allclose(found.logits, logits, rtol=0, atol=1e-12)
    assert all(torch.allclose(one, other, rtol=0, atol=1e-13) for one, other in zip(found.maps, maps, strict=True))
    assert received_attention(model, pixels, None).dtype == torch.float64


def test_gradients_of_maps_equal_those_computed_by_hand(vit) -> None:
    pixels = vits.images(3)
    captured = slope(lambda leaf: forward_with_attention(vit, leaf).maps[1][:, :, :, 5].log().sum(), pixels)
    wanted = slope(lambda leaf: by_hand(vit, leaf)[1][1][:, :, :, 5].log().sum(), pixels)
    assert torch.allclose(captured, wanted, rtol=1e-3, atol=1e-4)


def test_maps_do_not_depend_on_companions(vit) -> None:
    pixels = vits.images(7)
    alone, together = forward_with_attention(vit, pixels[5:6]).maps, forward_with_attention(vit, pixels).maps
    assert all(torch.equal(one, other[5:6]) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_attention_temperature_equals_that_computed_by_hand(vit, temperature) -> None:
    pixels = vits.images(6)
    with attention_temperature(vit, temperature):
        found = vit(pixels)
    assert torch.allclose(found, by_hand(vit, pixels, temperature)[0], atol=1e-4)


def test_maps_captured_under_a_temperature_have_that_temperature(vit) -> None:
    pixels = vits.images(2)
    with attention_temperature(vit, 3.0):
        found = forward_with_attention(vit, pixels).maps
    wanted = by_hand(vit, pixels, 3.0)[1]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, wanted, strict=True))


def test_unfused_attention_of_timm_is_intercepted_and_left_unfused(vit) -> None:
    model, pixels = vits.made(vits.vit), vits.images(2)
    for block in model.model.blocks:
        block.attn.fused_attn = False
    assert torch.allclose(forward_with_attention(model, pixels).maps[2], forward_with_attention(vit, pixels).maps[2], atol=1e-5)
    assert not any(block.attn.fused_attn for block in model.model.blocks)


@pytest.mark.parametrize("kwargs", [{}, {"depth": 6}])
def test_received_attention_is_the_mean_over_heads_and_queries_at_a_layer(kwargs) -> None:
    model, pixels = vits.made(lambda: vits.vit(**kwargs)), vits.images(6)
    block = by_hand(model, pixels)[1][4 if kwargs else 1]  # three blocks have no fourth: their last but one is taken
    wanted = torch.stack([block[:, :, :, 1 + token].mean(dim=(1, 2)) for token in range(16)], dim=1)
    assert torch.allclose(received_attention(model, pixels, 4), wanted.reshape(6, 4, 4), atol=1e-5)


def test_rollout_equals_its_formula(vit) -> None:
    pixels, total = vits.images(2), torch.eye(17).expand(2, 17, 17)
    for layer in by_hand(vit, pixels)[1]:
        total = torch.einsum("nij,njk->nik", (layer.sum(dim=1) / 2 + torch.eye(17)) / 2, total)
    assert torch.allclose(received_attention(vit, pixels, None), total[:, 0, 1:].reshape(2, 4, 4), atol=1e-5)


@pytest.mark.parametrize(("make", "prefix", "token"), [
    (vits.vit, 1, True), (vits.registers, 4, False), (vits.distilled, 2, True), (vits.Torchs, 0, False), (vits.HuggingFace, 1, True),
])  # fmt: skip
def test_the_grid_of_tokens_is_known(make, prefix, token) -> None:
    assert probe_token_grid(vits.made(make)) == TokenGrid(prefix, 4, 4, token)


def test_the_attention_of_a_pooling_head_is_not_captured() -> None:
    model = vits.made(lambda: vits.vit(class_token=False, global_pool="map"))
    assert [layer.shape[-2:] for layer in forward_with_attention(model, vits.images(1)).maps] == [(16, 16)] * 3


def test_attention_within_windows_is_refused() -> None:
    with pytest.raises(ModelError, match="windows"):
        received_attention(vits.made(vits.swin), vits.images(1), 4)


def test_channels_that_attend_to_each_other_are_refused() -> None:
    model = vits.made(lambda: timm.create_model("xcit_nano_12_p16_224", img_size=32, embed_dim=64, num_heads=4), sharp=1.0)
    with pytest.raises(ModelError, match="its 16 tokens do not form a grid"):  # 4x4 in number, and the image has 2x2
        received_attention(model, vits.images(1), 4)


def test_pooled_keys_are_refused() -> None:
    model = vits.made(lambda: timm.create_model("pvt_v2_b0"), sharp=1.0)
    with pytest.raises(ModelError, match="parts of an image"):
        received_attention(model, vits.images(1), 4)


def test_a_model_without_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="no attention that can be intercepted"):
        forward_with_attention(vits.made(vits.cnn), vits.images(1))


@pytest.mark.parametrize(
    "make", [lambda: timm.create_model("cait_xxs24_224", img_size=32), lambda: vits.HuggingFace("eager")], ids=["cait", "eager"]
)
def test_attention_computed_by_hand_is_refused(make) -> None:
    model = vits.made(make, sharp=1.0)
    with pytest.raises(ModelError, match="'toy' computes attention by hand"), attention_temperature(model, 2.0):
        model(vits.images(1))
