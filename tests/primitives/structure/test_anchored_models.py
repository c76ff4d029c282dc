"""Anchored models answer alike for every circular shift, on every kind of host, and what would break that is refused by name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import vits
from timm.models.swin_transformer import SwinTransformer
from timm.models.twins import Twins
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from robustvit.errors import HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.anchoring import FeatureAnchor, ImageAnchor
from robustvit.primitives.structure.equivariance_probe import module_that_breaks
from robustvit.primitives.surgery.recorded.tie_records import recorded_ties
from robustvit.spec.view import View
from robustvit.transforms.geometry.anchor import anchor
from robustvit.transforms.geometry.aps import aps
from robustvit.transforms.geometry.peg import peg
from robustvit.transforms.structure.feature_denoiser import feature_denoiser
from robustvit.transforms.structure.overlapping_patches import overlapping_patches
from robustvit.transforms.structure.token_aware_pooling import token_aware_pooling


def twins(side: int = 32, **more: Any) -> nn.Module:
    """A Twins of windows and reductions that divide 16x16 and 8x8 tokens."""
    given: dict[str, Any] = {"depths": (2, 2), "sr_ratios": (4, 2), "wss": (4, 4), "embed_dims": (16, 32), "num_heads": (2, 2)}
    return Twins(img_size=side, patch_size=2, mlp_ratios=(2, 2), num_classes=5, **given | more)


def odd_twins() -> nn.Module:
    """A Twins whose first stage ends in windows of 3, behind which merging needs an anchor of its own."""
    return twins(24, depths=(3, 2), sr_ratios=(2, 2), wss=(3, 3))


def odd_swin() -> nn.Module:
    """A Swin of windows of 3x3, half of them shifted."""
    return SwinTransformer(img_size=24, patch_size=2, embed_dim=16, depths=(2, 2), num_heads=(2, 2), window_size=3, num_classes=5)


def wide() -> nn.Module:
    """A ViT of images that are not square."""
    return VisionTransformer(**vits._SMALL | {"img_size": (16, 40), "depth": 2})


HOSTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    **{name: (vits.HOSTS[name], (32, 32)) for name in ("plain", "registers", "distilled", "average-pooled", "layer-scale", "swin")},
    "wide": (wide, (16, 40)), "twins": (twins, (32, 32)), "odd-twins": (odd_twins, (24, 24)), "odd-swin": (odd_swin, (24, 24)),
    "pcpvt": (lambda: twins(wss=None, depths=(1, 1)), (32, 32)),
}  # fmt: skip


def host(name: str, sharp: float = 6.0) -> Classifier:
    make, size = HOSTS[name]
    made = vits.made(make, sharp)
    made.view = View(size, size[0])
    return made.configure(tile=16)


def images(rows: int, size: tuple[int, int]) -> Tensor:
    return (torch.rand(rows, 3, *size, generator=torch.Generator().manual_seed(1)) * 255).round() / 255


def under_shifts(model: Classifier, pixels: Tensor, down: int = 1, across: int = 1) -> Tensor:
    """(shifts, N, K): logits under the circular shifts of a grid."""
    places = list(product(range(0, pixels.shape[2], down), range(0, pixels.shape[3], across)))
    every = torch.cat([pixels.roll(shift, dims=(2, 3)) for shift in places])
    with torch.no_grad():
        return model.configure(tile=64)(every).unflatten(0, (len(places), len(pixels)))


@pytest.mark.parametrize("name", HOSTS)
def test_logits_stay_under_every_circular_shift_and_those_of_the_host_do_not(name: str) -> None:
    given = host(name)
    pixels = images(3, given.size)
    logits = under_shifts(anchor(given), pixels, 3, 5)
    assert float((logits - logits[0]).abs().max()) < 1e-5
    assert torch.equal(logits.argmax(dim=2), logits[:1].argmax(dim=2).expand(len(logits), -1))
    assert float(logits[0].std(dim=0).min()) > 1e-3
    before = under_shifts(given, pixels, 3, 5)
    assert float((before - before[0]).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["plain", "distilled", "twins", "swin"])
def test_an_image_of_two_levels_and_a_constant_one_are_answered_alike_and_counted(name: str) -> None:
    model = anchor(host(name))
    two = (torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.5).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    pixels = torch.cat((two.expand(1, 3, -1, -1), torch.full((1, 3, 32, 32), 0.4), images(1, (32, 32))))
    logits = under_shifts(model, pixels, 4, 3)
    assert float((logits - logits[0]).abs().max()) < 1e-4
    with recorded_ties(model, 3) as found:
        model(pixels)
    assert found["value_tied"].shape == (3,)
    if name in ("plain", "distilled"):
        assert found["value_tied"].tolist() == [1.0, 1.0, 0.0]
    else:
        assert found["value_tied"][1] == sum(isinstance(part, (ImageAnchor, FeatureAnchor)) for part in model.modules())


def test_ties_are_of_the_images_alone_and_other_models_record_none() -> None:
    model = anchor(host("plain"))
    pixels = torch.cat((torch.full((17, 3, 32, 32), 0.4), images(3, (32, 32))))
    with recorded_ties(model, 20) as found:
        model(pixels)
    assert found["value_tied"].tolist() == [1.0] * 17 + [0.0] * 3
    with recorded_ties(host("plain"), 20) as found:
        host("plain")(pixels)
    assert not found


def test_where_anchors_stand() -> None:
    def strides(model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(part.stride) for name, part in model.named_modules() if isinstance(part, (ImageAnchor, FeatureAnchor))}

    assert strides(anchor(host("plain")).model) == {"patch_embed.proj.anchor": (8, 8)}
    assert strides(anchor(host("twins")).model) == {
        "patch_embeds.0.proj.anchor": (2, 2), "blocks.0.0.anchor": (4, 4), "blocks.0.1.anchor": (4, 4),
        "blocks.1.0.anchor": (4, 4), "blocks.1.1.anchor": (2, 2),
    }  # fmt: skip
    assert strides(anchor(host("odd-twins")).model)["patch_embeds.1.proj.anchor"] == (2, 2)
    assert strides(anchor(host("odd-swin")).model) == {
        "patch_embed.proj.anchor": (2, 2), "layers.0.blocks.0.anchor": (3, 3), "layers.1.downsample.anchor": (2, 2),
        "layers.1.blocks.0.anchor": (3, 3),
    }  # fmt: skip


def test_tokens_are_embedded_patches_of_the_rolled_image_plus_a_circular_convolution() -> None:
    given = host("plain")
    model = anchor(given)
    pixels = images(1, (32, 32))
    embed: Any = model.model.patch_embed
    rolled = embed.proj.anchor((pixels - given.mean) / given.std)
    before = embed.proj.conv(rolled)
    conv = embed.proj.positions.conv
    expected = before.clone()
    for dy, dx in product((-1, 0, 1), repeat=2):
        expected += conv.weight[:, 0, 1 + dy, 1 + dx].view(1, -1, 1, 1) * before.roll((-dy, -dx), dims=(2, 3))
    expected += conv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(embed((pixels - given.mean) / given.std), expected.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_swins_windows_cross_the_sides_half_a_window_apart() -> None:
    model: Any = anchor(host("swin")).model
    first, second = model.layers[0].blocks
    assert second.attn_mask is None
    assert second.get_attn_mask() is None
    reached = _reach(second, (16, 16), 16)
    assert reached == {(row, column) for row in (14, 15, 0, 1) for column in (14, 15, 0, 1)}
    assert _reach(first.inner, (16, 16), 16) == {(row, column) for row in range(4) for column in range(4)}


def _reach(block: nn.Module, grid: tuple[int, int], width: int) -> set[tuple[int, int]]:
    """The tokens on which the first one's output depends."""
    tokens = torch.randn(1, *grid, width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(block(tokens)[0, 0, 0].sum(), tokens)
    return {(int(row), int(column)) for row, column in slope[0].abs().sum(dim=2).nonzero()}


@pytest.mark.parametrize(("change", "named"), [
    (overlapping_patches, "'patch_embed.proj.conv' (Conv2d, padding (2, 2) with zeros)"),
    (token_aware_pooling, "'blocks.0.norm1.pooling.reduce' (Conv2d, padding (1, 1) with zeros)"),
    (feature_denoiser, "'norm.denoiser.layers.0.norm1' (LayerNorm)"),
])  # fmt: skip
def test_zero_padding_and_other_positions_are_refused_by_name(change: Callable[[Classifier], Classifier], named: str) -> None:
    with pytest.raises(HostRefused, match="computes other numbers for a shifted image") as refusal:
        anchor(change(host("average-pooled")))
    assert named in str(refusal.value)
    assert "'anchor' does not take 'toy'" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_probe_names_the_convolution_of_twins_that_pads_with_zeros() -> None:
    given = host("twins")
    model: Any = copy.deepcopy(anchor(given).model)
    assert module_that_breaks(model, 3, (32, 32)) == ""
    model.pos_block[1].proj[0] = copy.deepcopy(given.model.pos_block[1].proj[0])  # type: ignore[index,union-attr]
    assert module_that_breaks(model, 3, (32, 32)) == "'pos_block.1.proj.0' (Conv2d, padding (1, 1) with zeros)"


@pytest.mark.parametrize(("make", "size", "message"), [
    (lambda: vits.vit(img_size=36, depth=1), (36, 36), "patches of 8x8 do not divide 36x36"),
    (lambda: twins(28), (28, 28), "windows of 4x4 do not divide 14x14"),
    (lambda: twins(24, wss=None, depths=(1, 1), sr_ratios=(5, 1)), (24, 24), "reductions of keys of 5x5 do not divide 12x12"),
    (lambda: SwinTransformer(
        img_size=20, patch_size=2, embed_dim=16, depths=(1, 1), num_heads=(2, 2), window_size=4, num_classes=5
    ), (20, 20), "windows of 4x4 do not divide 10x10"),
])  # fmt: skip
def test_sizes_that_do_not_divide_are_refused_in_one_line(make: Callable[[], nn.Module], size: tuple[int, int], message: str) -> None:
    given = vits.made(make)
    given.view = View(size, size[0])
    with pytest.raises(HostRefused, match=message) as refusal:
        anchor(given)
    assert "\n" not in str(refusal.value)


def test_a_model_without_learned_positions_or_anchored_already_is_refused() -> None:
    with pytest.raises(HostRefused, match="anchored already"):
        anchor(anchor(host("plain")))
    for change in (anchor, aps, peg):
        with pytest.raises(HostRefused, match="no learned position embedding"):
            change(vits.made(lambda: vits.vit(pos_embed="none", depth=1)))  # type: ignore[operator]


def test_an_anchor_refuses_maps_that_it_does_not_divide() -> None:
    with pytest.raises(ModelError, match="anchors at 4x4 take maps of whole multiples of that; these are 6x8"):
        FeatureAnchor((4, 4))(torch.zeros(1, 2, 6, 8))


def test_the_host_keeps_its_positions_and_mask() -> None:
    for name in ("distilled", "swin", "twins"):
        given = host(name)
        pixels = images(2, given.size)
        before = given(pixels)
        anchor(given)
        assert torch.equal(given(pixels), before)
    assert dataclasses.replace(host("plain").card) == host("plain").card
