"""A first attention that is a convolution: against torch's own, against the construction of `exact`, and through training and files."""

from __future__ import annotations

import copy
from typing import Any

import exact
import pytest
import timm
import torch
import vits
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.analyses.insides.attention_profile import attention_profile
from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.draws import Draws
from robustvit.primitives.structure.convolutional_attention import ConvolutionalAttention, start_as_convolution, tap_offsets
from robustvit.training.recipe import Recipe
from robustvit.training.run import train_from_spec

WIDE: dict[str, Any] = {"embed_dim": 36, "num_heads": 9, "depth": 2}


def host(**more: Any) -> Any:
    torch.manual_seed(0)
    made: Any = vits.vit(**WIDE | more)
    nn.init.normal_(made.blocks[0].attn.qkv.bias)
    return made


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolved(attention: Any, tokens: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """(N, P, D): torch's convolution of patch tokens, and of a channel of ones for the bias of values, padded with zeros."""
    heads, width = attention.num_heads, attention.head_dim
    values = torch.cat((attention.qkv.weight, attention.qkv.bias[:, None]), dim=1)[-heads * width :]
    taps = [attention.proj.weight[:, h * width : (h + 1) * width] @ values[h * width : (h + 1) * width] for h in range(heads)]
    kernel = torch.stack(taps, dim=-1).unflatten(2, (round(heads**0.5), -1))
    maps = tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)
    maps = torch.cat((maps, torch.ones_like(maps[:, :1])), dim=1)
    return functional.conv2d(maps, kernel, attention.proj.bias, padding="same").flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("kernel", "more"), [
    (3, {}), (3, {"reg_tokens": 4, "qk_norm": True, "class_token": False, "global_pool": "avg"}), (1, {"embed_dim": 8, "num_heads": 1}),
    (5, {"embed_dim": 50, "num_heads": 25}), (3, {"img_size": (24, 40)}),
])  # fmt: skip
def test_the_first_attention_is_a_convolution_of_patch_tokens_on_the_whole_grid(kernel: int, more: dict[str, Any]) -> None:
    plain = host(**more)
    defense = rv.load_defense("convolutional_start", kernel=kernel)
    model: Any = defense.prepare(copy.deepcopy(plain))
    grid, prefix = plain.patch_embed.grid_size, plain.num_prefix_tokens
    tokens = drawn(2, prefix + grid[0] * grid[1], plain.embed_dim)
    found = model.blocks[0].attn(tokens.float())[:, prefix:].double()
    expected = convolved(copy.deepcopy(plain.blocks[0].attn).double(), tokens, grid, prefix).detach()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    sharp: Any = rv.load_defense("convolutional_start", kernel=kernel, sharpness=45.0).prepare(plain.double())
    torch.testing.assert_close(sharp.blocks[0].attn(tokens)[:, prefix:], expected, rtol=0, atol=1e-12)


def test_of_tokens_that_are_pixels_it_is_the_convolution_of_the_image() -> None:
    """With values and projection from the construction of `exact`, whose heads come in the same order."""
    weight, images, patch = drawn(3, 3, 3, 3), drawn(2, 3, 12, 8, seed=1), 2
    size = 3 * patch**2
    plain: Any = vits.vit(
        img_size=(12, 8), patch_size=patch, embed_dim=9 * size, num_heads=9, depth=1, class_token=False, global_pool="avg"
    )
    model: Any = start_as_convolution(plain.double(), 3, 45.0)
    attention, construction = model.blocks[0].attn, exact.ConvolutionAsAttention(weight, patch, circular=False)
    with torch.no_grad():
        for parameter in (attention.qkv.weight, attention.qkv.bias, attention.proj.weight, attention.proj.bias):
            parameter.zero_()
        for head, offset in enumerate(construction.heads):
            attention.qkv.weight[2 * 9 * size + head * size : 2 * 9 * size + (head + 1) * size, :size] = torch.eye(size)
            attention.proj.weight[:size, head * size : (head + 1) * size] = construction.value(offset)
    pixels = functional.unfold(images, patch, stride=patch).transpose(1, 2)
    found = attention(functional.pad(pixels, (0, 8 * size)))[..., :size]
    folded = functional.fold(found.transpose(1, 2), (12, 8), patch, stride=patch)
    torch.testing.assert_close(folded, construction(images), rtol=0, atol=1e-12)
    torch.testing.assert_close(folded, functional.conv2d(images, weight, padding=1), rtol=0, atol=1e-12)


def by_hand(attention: ConvolutionalAttention, tokens: Tensor) -> Tensor:
    """Loops over heads, queries and keys; the grid is 2 x 3 and there is one prefix token."""
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    width, places = attention.head_dim, [(place // 3, place % 3) for place in range(6)]
    joined = torch.zeros_like(value)
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        for one in range(7):
            scores = attention.content[head] * (key[0, :, part] @ query[0, one, part]) * width**-0.5
            if one:
                for other in range(1, 7):
                    down, right = (there - here for there, here in zip(places[other - 1], places[one - 1], strict=True))
                    scores[other] += attention.positions[head, 1 + down, 2 + right]
            joined[0, one, part] = (scores.exp() / scores.exp().sum()) @ value[0, :, part]
            if one and head < 9:
                row, column = places[one - 1][0] + head // 3 - 1, places[one - 1][1] + head % 3 - 1
                joined[0, one, part] *= 0 <= row < 2 and 0 <= column < 3
    found: Tensor = attention.proj(joined)
    return found


def test_whatever_it_has_learned_it_adds_positions_to_weighed_contents_step_by_step() -> None:
    """Of ten heads the last is no tap."""
    plain: Any = vits.vit(embed_dim=40, num_heads=10, depth=1)
    made = ConvolutionalAttention(plain.blocks[0].attn, 3, 20.0, (2, 3), 1).double()
    assert made.content.tolist() == [0.0] * 9 + [1.0]
    assert not made.positions[9].any()
    with torch.no_grad():
        made.positions.copy_(drawn(*made.positions.shape))
        made.content.copy_(drawn(10, seed=1))
        tokens = drawn(1, 7, 40, seed=2)
        torch.testing.assert_close(made(tokens), by_hand(made, tokens), rtol=0, atol=1e-12)


def test_further_heads_stay_as_they_are() -> None:
    """With kernel 1 and values of the first head at zero, what is left is timm's attention without that head."""
    plain: Any = vits.vit(depth=1).double()
    attention = plain.blocks[0].attn
    nn.init.zeros_(attention.proj.weight[:, :12])
    expected = attention(drawn(2, 17, 24))
    made: Any = start_as_convolution(plain, 1, 20.0)
    torch.testing.assert_close(made.blocks[0].attn(drawn(2, 17, 24)), expected, rtol=0, atol=1e-12)


def test_eight_of_nine_heads_look_at_one_neighbour() -> None:
    model = vits.made(lambda: start_as_convolution(host(), 3, 20.0), sharp=1.0)
    found = attention_profile(model, vits.images(3), torch.zeros(3, dtype=torch.int64), Draws(0, "x", ["a", "b", "c"]))
    assert found["value_clean_offset_heads"][:, 0].tolist() == pytest.approx([8 / 9] * 3)


def test_what_it_takes_and_what_it_refuses() -> None:
    assert tap_offsets(3) == [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)]
    with pytest.raises(BadParameter, match="kernel is 2; a convolution of patches around each one has an odd kernel"):
        start_as_convolution(host(), 2, 20.0)
    with pytest.raises(HostRefused, match="its first block has 2 heads, and a 3x3 convolution takes one for each of its 9 taps"):
        rv.load_defense("convolutional_start").prepare(vits.vit())
    with pytest.raises(HostRefused, match="'convolutional_start' takes timm's plain vision transformers"):
        rv.load_defense("convolutional_start").prepare(timm.create_model("resnet10t", num_classes=5))
    with pytest.raises(HostRefused, match="has a ConvolutionalAttention"):
        start_as_convolution(start_as_convolution(host(), 3, 20.0), 3, 20.0)
    with pytest.raises(ModelError, match="takes all 4x4 patch tokens of an image, not 15"):
        start_as_convolution(host(), 3, 20.0).blocks[0].attn(torch.zeros(1, 16, 36))


def test_trained_on_digits_it_comes_back_from_its_file_to_the_bit(tmp_path: Any) -> None:
    address = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=36,num_heads=9,depth=1"
    out, recipe = tmp_path / "c.safetensors", Recipe(epochs=1, batch_size=320, lr=0.01)
    trained = train_from_spec(address, out=out, defenses=("convolutional_start(sharpness=5)",), recipe=recipe).model
    loaded: Any = load_model(f"file:{out}")
    assert [(spec.name, spec.get("kernel"), spec.get("sharpness")) for spec in loaded.card.identity.get("surgery")] == [
        ("convolutional_start", 3, 5.0)
    ]
    assert torch.equal(loaded(vits.images(3)), trained(vits.images(3)))
    attention = loaded.model.blocks[0].attn
    assert isinstance(attention, ConvolutionalAttention)
    assert attention.content.all(), "content is learned of all heads"
    assert bool((attention.positions != 5).all()), "and so are positions"
    assert bool(attention.positions.any())
