"""HiLo attention against attention between all tokens where the two coincide, and its lesion."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused
from robustvit.evaluation.loading import load_model
from robustvit.models.architectures.hilo import hilo
from robustvit.primitives.architectures.hilo_attention import HiLoAttention, hilo_layers
from robustvit.transforms.structure.lesion_hilo import lesion_hilo

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "dim": 24, "heads": 4, "depth": 2, "num_classes": 5}
ADDRESS = "arch/hilo?img_size=32&patch_size=8&dim=24&heads=4&depth=2&num_classes=5"


def layer(alpha: float, window: int, heads: int = 4) -> HiLoAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = HiLoAttention(24, heads, alpha, window)
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.5)
        return made


def tokens(height: int = 4, width: int = 6) -> Tensor:
    return torch.randn(2, height, width, 24, generator=torch.Generator().manual_seed(1))


def attention(queries: list[Tensor], keys: list[Tensor], values: list[Tensor], heads: int) -> list[Tensor]:
    """Softmax attention written out, query by query and head by head."""
    found = []
    for query in queries:
        parts = []
        for own in torch.arange(len(query)).chunk(heads):
            scores = torch.stack([query[own] @ key[own] for key in keys]) / len(own) ** 0.5
            parts.append((scores.softmax(dim=0)[:, None] * torch.stack([value[own] for value in values])).sum(dim=0))
        found.append(torch.cat(parts))
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_it_is_its_definition_token_by_token(alpha: float) -> None:
    made, given = layer(alpha, 2), tokens()[:1]
    high, low = made.high_heads, made.low_heads
    assert (high, low) == {0.0: (4, 0), 0.3: (3, 1), 0.5: (2, 2), 1.0: (0, 4)}[alpha]
    out = made(given)
    assert out.shape == given.shape
    for row in range(4):
        for column in range(6):
            found = []
            if high:
                top, left = row // 2 * 2, column // 2 * 2
                window = [given[0, top + i, left + j] for i in range(2) for j in range(2)]
                projected = [made.high_qkv(one).chunk(3) for one in window]
                own = made.high_qkv(given[0, row, column]).chunk(3)[0]
                mixed = attention([own], [one[1] for one in projected], [one[2] for one in projected], high)[0]
                found.append(made.high_proj(mixed))
            if low:
                means = [given[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(0, 1)) for i in range(2) for j in range(3)]
                projected = [made.low_kv(one).chunk(2) for one in means]
                mixed = attention([made.low_q(given[0, row, column])], [one[0] for one in projected], [one[1] for one in projected], low)[0]
                found.append(made.low_proj(mixed))
            assert torch.allclose(out[0, row, column], torch.cat(found), atol=1e-4)


def whole(qkv: nn.Linear, given: Tensor, heads: int) -> Tensor:
    """Attention between all tokens of a map, before its output projection."""
    query, key, value = qkv(given.flatten(1, 2)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    maps = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    return (maps @ value).transpose(1, 2).flatten(2)


def test_windows_of_one_token_are_attention_between_all_tokens() -> None:
    for alpha in (0.0, 0.5, 1.0):
        made, given = layer(alpha, 1), tokens()
        assert (made.high_heads, made.low_heads) == (0, 4)
        qkv = nn.Linear(24, 72)
        qkv.weight.data, qkv.bias.data = (torch.cat([getattr(made.low_q, name), getattr(made.low_kv, name)]) for name in ("weight", "bias"))
        assert torch.allclose(made(given), made.low_proj(whole(qkv, given, 4)).view(given.shape), atol=1e-5)


def test_a_window_of_the_whole_map_is_attention_of_the_high_heads() -> None:
    made, given = layer(0.5, 4), tokens(4, 4)
    expected = made.high_proj(whole(made.high_qkv, given, 2)).view(2, 4, 4, 12)
    assert torch.allclose(made(given)[..., :12], expected, atol=1e-5)
    mean = made.low_proj(made.low_kv(given.mean(dim=(1, 2)))[:, 12:])
    assert torch.allclose(made(given)[..., 12:], mean[:, None, None].expand(2, 4, 4, 12), atol=1e-5)


@pytest.mark.parametrize(("part", "zero", "stays"), [("hi", slice(0, 12), slice(12, 24)), ("lo", slice(12, 24), slice(0, 12))])
def test_a_lesion_is_that_part_of_the_output(part: Any, zero: slice, stays: slice) -> None:
    model, given = load_model(ADDRESS), tokens(4, 4)
    made = lesion_hilo(model, part=part)
    for before, after in zip(hilo_layers(model.model), hilo_layers(made.model), strict=True):
        assert not bool(after(given)[..., zero].any())
        assert torch.equal(after(given)[..., stays], before(given)[..., stays])
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    assert torch.equal(lesion_hilo(made, part="none")(pixels), model(pixels))
    assert not torch.equal(made(pixels), model(pixels))
    assert all(layer.lesion == "" for layer in hilo_layers(model.model))


def test_what_does_not_divide_or_is_not_there_is_refused() -> None:
    with pytest.raises(BadParameter, match="4x4 patches do not divide into windows of 3x3"):
        hilo(**SMALL, window=3)
    with pytest.raises(BadParameter, match="a map of 4x6 tokens does not divide into windows of 4x4"):
        layer(0.5, 4)(tokens())
    with pytest.raises(BadParameter, match="width of 24 does not divide into 5 heads"):
        layer(0.5, 2, heads=5)
    with pytest.raises(HostRefused, match="has no lo heads"):
        lesion_hilo(load_model(f"{ADDRESS}&alpha=0"), part="lo")
    with pytest.raises(HostRefused, match="'lesion_hilo' takes models with HiLo attention, and 'demo' is none"):
        rv.transformed(rv.load_model("demo"), "lesion_hilo")
