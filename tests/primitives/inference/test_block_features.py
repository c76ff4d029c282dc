"""Features after blocks: against a walk through the blocks by hand, in every wrapper, and no further than they are needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vits import SIDE, TILE, HuggingFace, Torchs, Wrapped, cnn, distilled, eva, images, made, pooled, registers, swin, vit

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import ReadClassifier, ThroughHost, UpsampledClassifier
from robustvit.primitives.inference.block_features import (
    BlockFeatures,
    blocks_of,
    checked_layers,
    mean_patches,
    mean_square,
    patch_deviation,
    patch_values,
)
from robustvit.primitives.reading import Reading
from robustvit.spec.view import View


def by_hand(model: Classifier, pixels: Tensor, layer: int) -> Tensor:
    """(N, T, D) after a block of timm's transformer."""
    net: Any = getattr(model.model, "inner", model.model)
    tokens = net.norm_pre(net._pos_embed(net.patch_embed((pixels - model.mean) / model.std)))  # type: ignore[operator]
    for block in list(net.blocks)[: layer + 1]:
        tokens = block(tokens)
    return tokens  # type: ignore[no-any-return]


PREFIX: dict[str, tuple[Any, int]] = {
    "class token": (vit, 1), "registers": (registers, 4), "distilled": (distilled, 2), "pooled": (pooled, 0),
    "wrapped": (lambda: Wrapped("inner"), 1),
}  # fmt: skip


@pytest.mark.parametrize(("make", "prefix"), PREFIX.values(), ids=PREFIX)
def test_features_are_those_of_a_walk_through_the_blocks(make: Any, prefix: int) -> None:
    model, pixels = made(make).double(), images(TILE + 2).double()
    for layer in range(2):
        tokens = by_hand(model, pixels, layer)
        patches = tokens[:, prefix:]
        expected = {
            mean_patches: patches.mean(dim=1), patch_values: patches.flatten(1), mean_square: (tokens**2).mean(dim=(1, 2))[:, None],
            patch_deviation: torch.stack([one.std() for one in patches])[:, None],
        }  # fmt: skip
        for pool, values in expected.items():
            assert torch.allclose(BlockFeatures(model, [layer], pool)(pixels), values, atol=1e-12)
    both = BlockFeatures(model, [1, 0], mean_patches)(pixels)
    assert torch.allclose(both, torch.cat([by_hand(model, pixels, layer)[:, prefix:].mean(dim=1) for layer in (1, 0)], dim=1), atol=1e-12)


def test_gradients_reach_the_pixels_as_by_hand() -> None:
    model = made(vit).double()
    leaf, features = images(TILE + 1).double().requires_grad_(True), BlockFeatures(model, [1], mean_patches)
    for _ in range(2):  # the first pass goes through the whole model, the next ends after the block
        found = torch.autograd.grad(features(leaf).square().sum(), leaf)[0]
        expected = torch.autograd.grad(by_hand(model, leaf, 1)[:, 1:].mean(dim=1).square().sum(), leaf)[0]
        assert torch.allclose(found, expected, atol=1e-12)


def test_the_pass_ends_at_the_last_block_that_is_needed_and_leaves_no_hook() -> None:
    model = made(vit)
    before, calls = model(images(6)), [0, 0, 0]
    for number, block in enumerate(blocks_of(model)):
        block.register_forward_pre_hook(lambda *_, number=number: calls.__setitem__(number, calls[number] + 1))
    features = BlockFeatures(model, [1, 0], mean_patches)
    features(images(TILE))
    assert calls == [1, 1, 1]  # the first is looked at as a whole
    features(images(3 * TILE))
    assert calls == [4, 4, 1]
    assert not any(block._forward_hooks for block in blocks_of(model))
    assert torch.equal(model(images(6)), before)


@pytest.mark.parametrize("make", [HuggingFace, Torchs, eva], ids=["hugging-face", "torch", "eva"])
def test_transformers_of_other_libraries_have_blocks_too(make: Any) -> None:
    model = made(make)
    before, kept = model(images(3)), list[Tensor]()
    hook = blocks_of(model)[1].register_forward_hook(lambda block, given, output: kept.append(output))
    model(images(3))
    hook.remove()
    prefix = 0 if make is Torchs else 1
    features = BlockFeatures(model, [1], mean_patches)
    for _ in range(2):
        assert torch.allclose(features(images(3)), kept[0][:3, prefix:].mean(dim=1), atol=1e-6)
    assert torch.equal(model(images(3)), before)


def test_a_row_does_not_depend_on_the_others() -> None:
    model = made(vit)
    features = BlockFeatures(model, [1], mean_patches)
    whole = features(images(7))
    assert torch.equal(features(images(7)[[5]]), whole[[5]])


def test_tiles_stay_whole_where_logits_would_come_of_smaller_ones() -> None:
    model = made(vit).configure(tile=16)
    features = BlockFeatures(model, [1], mean_patches)
    whole = features(images(7))
    with model.with_small_tiles():
        for _ in range(6):  # the probe for a smaller tile is made after some
            assert torch.equal(features(images(7)[[6, 2]]), whole[[6, 2]])


def test_wrappers_are_passed_through() -> None:
    model = made(vit)
    plain = BlockFeatures(model, [1], mean_patches)
    read = ReadClassifier(model, Reading("some", 2, columns=(1, 0)))
    assert torch.equal(BlockFeatures(read, [1], mean_patches)(images(5)), plain(images(5)))
    small = UpsampledClassifier(model, View((16, 16), 16, shown=(SIDE, SIDE)))
    pixels = images(3)[..., :16, :16].contiguous()
    upsampled = nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(BlockFeatures(small, [1], mean_patches)(pixels), plain(upsampled))


def test_what_a_transform_changes_holds_for_features() -> None:
    model = made(vit)
    hot = rv.transformed(model, "attention_temperature", temperature=3.0)
    changed, plain = (BlockFeatures(one, [1], mean_patches)(images(3)) for one in (hot, model))
    assert not torch.allclose(changed, plain, atol=1e-4)


def test_of_gradients_through_a_host_it_has_the_hosts_features() -> None:
    host, other = made(vit), made(lambda: vit(qkv_bias=False))
    found = BlockFeatures(ThroughHost(other, host), [1], mean_patches)
    leaf = images(3).requires_grad_(True)
    assert torch.equal(found(leaf), BlockFeatures(host, [1], mean_patches)(images(3)))
    assert found.gradient == "surrogate"
    assert bool(torch.autograd.grad(found(leaf).sum(), leaf)[0].any())


def test_a_smaller_tile_within_a_wrapper_is_kept_to() -> None:
    model = made(vit)
    outer = ReadClassifier(model, Reading("some", 2, columns=(1, 0))).configure(tile=7)
    assert torch.equal(BlockFeatures(outer, [1], mean_patches)(images(7)), BlockFeatures(model, [1], mean_patches)(images(7)))


class Twice(nn.Module):
    """A transformer asked twice, about an image and its reflection."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = vit()

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixels) + self.inner(pixels.flip(3))
        return logits


def test_what_has_no_one_sequence_of_blocks_is_refused() -> None:
    for make, why in ((cnn, "has no sequences of blocks"), (swin, "has 3 sequences of blocks"), (Twice, "calls its 3 blocks 6 times")):
        with pytest.raises(HostRefused, match=f"model 'toy' {why}.*plain vision transformer"):
            BlockFeatures(made(make), [0], mean_patches)(images(1))
    reduced = rv.transformed(made(vit), "evit", keep=0.5)
    with pytest.raises(HostRefused, match="calls its 3 blocks 0 times in a pass"):
        BlockFeatures(reduced, [0], mean_patches)(images(1))


def test_layers_are_checked() -> None:
    assert checked_layers("mine", made(vit), [2, 0]) == (2, 0)
    for wrong, shown in (([], "none"), ([3], "3"), ([-1], "-1"), ([1, 1], "1, 1")):
        with pytest.raises(BadParameter, match=f"attack 'mine': layers are {shown}; name each once, of 0 to 2, the blocks of model 'toy'"):
            checked_layers("mine", made(vit), wrong)
