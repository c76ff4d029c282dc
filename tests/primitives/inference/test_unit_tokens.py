"""Tokens at the joints of blocks: against a walk through the blocks by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from vits import SIDE, TILE, HuggingFace, Torchs, Wrapped, cnn, distilled, images, layer_scale, made, pooled, registers, swin, vit

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.inference.unit_tokens import UnitTokens, unit_tokens


def found(model: Classifier, pixels: Tensor) -> list[Tensor]:
    """(N, T, D) of every joint."""
    tiles = list(unit_tokens(model, pixels))
    return [torch.cat([tile.units[place] for tile in tiles]) for place in range(len(tiles[0].units))]


def by_hand(model: Classifier, pixels: Tensor) -> list[Tensor]:
    net: Any = getattr(model.model, "inner", model.model)
    tokens = [net.norm_pre(net._pos_embed(net.patch_embed((pixels - model.mean) / model.std)))]  # type: ignore[operator]
    for block in net.blocks:
        tokens.append(tokens[-1] + block.ls1(block.attn(block.norm1(tokens[-1]))))
        tokens.append(tokens[-1] + block.ls2(block.mlp(block.norm2(tokens[-1]))))
    return tokens


PREFIX: dict[str, tuple[Any, int]] = {
    "class token": (vit, 1), "registers": (registers, 4), "distilled": (distilled, 2), "pooled": (pooled, 0),
    "layer scale": (layer_scale, 1), "wrapped": (lambda: Wrapped("inner"), 1),
}  # fmt: skip


@pytest.mark.parametrize(("make", "prefix"), PREFIX.values(), ids=PREFIX)
def test_they_are_those_of_a_walk_through_the_blocks(make: Any, prefix: int) -> None:
    model, pixels = made(make).double(), images(2 * TILE + 2).double()
    every, expected = found(model, pixels), by_hand(model, pixels)
    assert len(every) == len(expected)
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(every, expected, strict=True))
    tiles = list(unit_tokens(model, pixels))
    assert [len(tile.logits) for tile in tiles] == [TILE, TILE, 2]
    assert torch.equal(torch.cat([tile.logits for tile in tiles]), model(pixels))
    assert tiles[0].grid.prefix == prefix


def test_those_of_hugging_face_and_torchvision_add_an_attention_and_an_mlp() -> None:
    theirs = torchvision.models.VisionTransformer(SIDE, 8, 2, 2, 24, 48, num_classes=5)
    for make, block in (
        (HuggingFace, lambda net, x: (net.attention, net.layernorm_before)),
        (lambda: theirs, lambda net, x: (net.self_attention, net.ln_1)),
    ):
        model, pixels = made(make), images(3)
        (tile,) = unit_tokens(model, pixels)
        assert isinstance(tile, UnitTokens)
        blocks = [one for one in model.modules() if type(one).__name__ in ("ViTLayer", "EncoderBlock")]
        for before, between, after, one in zip([tile.embedded, *tile.mlp], tile.attention, tile.mlp, blocks, strict=False):
            attention, norm = block(one, None)
            normed = norm(before)
            update = attention(normed, normed, normed, need_weights=False) if hasattr(one, "self_attention") else attention(normed)
            update = update[0] if isinstance(update, tuple) else update
            assert torch.allclose(between, before + update, atol=1e-5)
            second = (one.mlp(one.ln_2(between)),) if hasattr(one, "ln_2") else (None,)
            assert second[0] is None or torch.allclose(after, between + second[0], atol=1e-5)
        assert torch.equal(tile.logits, model(pixels))


def test_rows_do_not_depend_on_companions() -> None:
    model, pixels = made(vit), images(TILE + 3)
    whole = found(model, pixels)
    for row in (0, TILE, TILE + 2):
        assert all(torch.equal(one[row : row + 1], alone) for one, alone in zip(whole, found(model, pixels[row : row + 1]), strict=True))


@pytest.mark.parametrize(("make", "why"), [
    (swin, "3 sequences of blocks"), (cnn, "no sequences of blocks"), (Torchs, "blocks of the type TransformerEncoderLayer"),
    (lambda: vit(block_fn=_post_norm()), "blocks of the type ResPostBlock"),
])  # fmt: skip
def test_other_models_are_refused_by_name(make: Any, why: str) -> None:
    with pytest.raises(HostRefused, match=rf"model 'toy' .*{why}"):
        list(unit_tokens(made(make), images(2)))


def _post_norm() -> type[nn.Module]:
    from timm.models.vision_transformer import ResPostBlock

    return ResPostBlock
