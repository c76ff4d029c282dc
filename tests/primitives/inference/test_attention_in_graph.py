"""Attention maps that the logits are computed from: gradients with respect to them, against finite differences and attention by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import vits
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.attention_maps import attention_in_graph, forward_with_attention
from robustvit.primitives.inference.attention_mode import AttentionMode, fused_attention

hosts = pytest.mark.parametrize("make", vits.PLAIN.values(), ids=vits.PLAIN)
STEP = 1e-7  # shorter than the way to a kink of torch's ReLU


class Added(AttentionMode):
    """Adds a matrix to the map of one attention, in order of their calls, by the linearity of its output in the map."""

    def __init__(self, model: Classifier, block: int, matrix: Tensor) -> None:
        super().__init__(model)
        self.block, self.matrix, self.calls = block, matrix, 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **rest: Any) -> Tensor:
        output = functional.scaled_dot_product_attention(query, key, value, *others, **rest)
        self.calls += 1
        return output + self.matrix @ value if self.calls == self.block + 1 else output


def with_added(model: Classifier, pixels: Tensor, block: int, matrix: Tensor) -> Tensor:
    """Logits of a whole tile where `matrix` is added to the map of a block."""
    if isinstance(model.model, vits.Torchs):
        return torchs_by_hand(model, pixels, block, matrix)
    with fused_attention(model), Added(model, block, matrix):
        return model(pixels)


def torchs_by_hand(model: Classifier, pixels: Tensor, block: int, matrix: Tensor) -> Tensor:
    """torch's encoder layer by layer: attention, its norm, two linear layers, their norm."""
    tokens = model.model.embed((pixels - model.mean) / model.std).flatten(2).transpose(1, 2)
    for number, layer in enumerate(model.model.blocks.layers):
        attention = layer.self_attn
        query, key, value = (
            part.reshape(*part.shape[:2], 2, 12).transpose(1, 2)
            for part in (tokens @ attention.in_proj_weight.T + attention.in_proj_bias).split(24, dim=2)
        )
        weights = (query @ key.mT / math.sqrt(12)).softmax(dim=-1) + (matrix if number == block else 0)
        tokens = layer.norm1(tokens + attention.out_proj((weights @ value).transpose(1, 2).flatten(2)))
        tokens = layer.norm2(tokens + layer.linear2(layer.linear1(tokens).relu()))
    return model.model.head(tokens.mean(dim=1))


@hosts
def test_logits_equal_the_fused_paths_and_maps_the_captured_ones(make) -> None:
    model, pixels = vits.made(make), vits.images(6)
    beside, parts = forward_with_attention(model, pixels), list(attention_in_graph(model, pixels))
    assert [len(part.logits) for part in parts] == [4, 2]
    assert torch.allclose(torch.cat([part.logits for part in parts]), model(pixels), rtol=1e-5, atol=1e-5)
    for block, layer in enumerate(beside.maps):
        assert torch.allclose(torch.cat([part.maps[block] for part in parts]), layer, atol=1e-5)


@hosts
def test_gradients_with_respect_to_maps_equal_finite_differences(make) -> None:
    model, pixels = vits.made(make, sharp=2.0).double(), vits.images(4).double()
    (part,) = attention_in_graph(model, pixels)
    gradients = torch.autograd.grad(part.logits[:, 2].sum(), part.maps)
    for block, gradient in enumerate(gradients):
        matrix = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(block))
        up, down = (with_added(model, pixels, block, sign * STEP * matrix)[:, 2] for sign in (1, -1))
        assert torch.allclose((up - down) / (2 * STEP), (gradient * matrix).sum(dim=(1, 2, 3)), rtol=1e-5, atol=1e-6)
        assert float((up - down).abs().max()) > STEP / 100


def test_gradients_go_through_the_maps_of_later_blocks_as_those_of_attention_by_hand() -> None:
    model, pixels = vits.made(vits.vit, sharp=2.0).double(), vits.images(2).double()
    vit, maps = model.model, []
    tokens = vit._pos_embed(vit.patch_embed((pixels - model.mean) / model.std))
    for block in vit.blocks:
        query, key, value = block.attn.qkv(block.norm1(tokens)).reshape(2, 17, 3, 2, 12).permute(2, 0, 3, 1, 4)
        maps.append((query @ key.mT / math.sqrt(12)).softmax(dim=-1).requires_grad_())
        tokens = tokens + block.attn.proj((maps[-1] @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    wanted = torch.autograd.grad(vit.forward_head(vit.norm(tokens))[:, 1].sum(), maps)
    (part,) = attention_in_graph(model, pixels)
    found = torch.autograd.grad(part.logits[:, 1].sum(), part.maps)
    assert all(torch.allclose(one, other, rtol=1e-6, atol=1e-9) for one, other in zip(found, wanted, strict=True))


@hosts
def test_gradients_with_respect_to_images_are_those_of_the_fused_path(make) -> None:
    model, leaf = vits.made(make, sharp=2.0), vits.images(3).requires_grad_()
    (part,) = attention_in_graph(model, leaf)
    found, wanted = (torch.autograd.grad(logits[:, 0].sum(), leaf)[0] for logits in (part.logits, model(leaf)))
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_maps_beside_the_logits_have_no_gradient() -> None:
    captured = forward_with_attention(vits.made(vits.vit), vits.images(2).requires_grad_())
    assert torch.autograd.grad(captured.logits.sum(), captured.maps, allow_unused=True) == (None,) * 3


def test_maps_of_half_precision_are_float32_and_have_gradients() -> None:
    model = vits.made(vits.vit, sharp=2.0).configure(precision="bfloat16")
    (part,) = attention_in_graph(model, vits.images(4))
    gradients = torch.autograd.grad(part.logits[:, 0].sum(), part.maps)
    assert all(one.dtype == torch.float32 and bool(one.flatten(1).any(dim=1).all()) for one in (*part.maps, *gradients))


def test_without_gradients_nothing_requires_one() -> None:
    with torch.no_grad():
        (part,) = attention_in_graph(vits.made(vits.vit), vits.images(1))
    assert not any(one.requires_grad for one in (part.logits, *part.maps))


class Grouped(nn.Module):
    """One attention of four query heads over 4x4 tokens, two of them on each head of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 32, 8, 8), nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).unflatten(1, (8, 4)).mT
        query, key, value = tokens.split((4, 2, 2), dim=1)
        return self.head(functional.scaled_dot_product_attention(query, key, value, enable_gqa=True).mean(dim=2).flatten(1))


def test_heads_that_share_keys_and_values() -> None:
    model, pixels = vits.made(Grouped), vits.images(3)
    (part,) = attention_in_graph(model, pixels)
    assert part.maps[0].shape == (3, 4, 16, 16)
    assert torch.allclose(part.logits, model(pixels), atol=1e-5)


def test_attention_within_windows_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="'toy' attends within windows"):
        next(attention_in_graph(vits.made(vits.swin), vits.images(1)))
