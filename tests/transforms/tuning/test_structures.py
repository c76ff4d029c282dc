"""The structures that tunings add, against step-by-step references."""

from __future__ import annotations

import pytest
import torch
import vits
from torch import Tensor, nn
from torch.nn import functional

import robustvit as rv
from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.structure.side_network import SideTuned


def random(model: Classifier, name: str) -> Classifier:
    """The model with normally distributed parameters of that name."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for own, one in model.model.named_parameters():
            if name in own:
                one.copy_(0.3 * torch.randn(one.shape, generator=generator))
    return model


def normal(model: Classifier, images: Tensor) -> Tensor:
    return (images - model.mean) / model.std


def test_adaptformer_as_the_papers_equation_has_it() -> None:
    """x' = x + MSA(LN(x)); x = x' + MLP(LN(x')) + s · ReLU(LN(x') · down) · up."""
    host, images = vits.made(vits.HOSTS["plain"], 1.0), vits.images(3)
    made = random(random(rv.transformed(host, "adapter", width=4, scale=0.5), ".up."), ".down.")
    vit = made.model
    x = vit._pos_embed(vit.patch_embed(normal(host, images)))
    for block in vit.blocks:
        x = x + block.attn(block.norm1(x))
        h, beside = block.norm2(x), block.mlp
        bottleneck = torch.clamp(h @ beside.down.weight.T + beside.down.bias, min=0)
        x = x + beside.mlp(h) + 0.5 * (bottleneck @ beside.up.weight.T + beside.up.bias)
    expected = vit.head(vit.norm(x)[:, 0])
    assert torch.allclose(made(images), expected, atol=1e-5)
    assert float((made(images) - host(images)).abs().max()) > 1e-2


def test_adapters_begin_as_the_paper_says() -> None:
    made = rv.transformed(vits.made(vits.HOSTS["plain"], 1.0), "adapter").model
    assert made.blocks[0].mlp.down.weight.shape == (64, 24)
    assert not made.blocks[1].mlp.up.weight.any()
    assert not made.blocks[1].mlp.down.bias.any()
    assert made.blocks[0].mlp.down.weight.abs().max() <= 1 / 24**0.5
    assert made.blocks[0].mlp.scale == 0.1


def test_the_side_network_step_by_step() -> None:
    host, images = vits.made(lambda: vits.vit(depth=3), 1.0), vits.images(2)
    made = random(rv.transformed(host, "side", width=6), "side_head")
    side, vit = made.model, made.model.backbone
    assert isinstance(side, SideTuned)
    x = vit._pos_embed(vit.patch_embed(normal(host, images)))
    state = functional.conv2d(normal(host, images), side.stem.weight, side.stem.bias, stride=4)
    for place, (block, own) in enumerate(zip(vit.blocks, side.blocks, strict=True)):
        x = block(x)
        if place > 0:  # three blocks, three scales: 8, 4 and 2 cells a side
            halving = side.halvings[place - 1]
            state = functional.conv2d(state, halving.weight, halving.bias, stride=2, padding=1)
        assert state.shape == (2, 6, 8 >> place, 8 >> place)
        tokens = functional.layer_norm(x[:, 1:], (24,), own.norm.weight, own.norm.bias) @ own.bridge.weight.T + own.bridge.bias
        read = tokens.transpose(1, 2).reshape(2, 6, 4, 4)
        state = state + functional.interpolate(read, size=state.shape[-2:], mode="bilinear")
        inner = functional.group_norm(functional.conv2d(state, own.around.weight, own.around.bias, padding=1, groups=6), 1,
                                      own.inner.weight, own.inner.bias)  # fmt: skip
        state = state + own.down(functional.gelu(own.up(inner)))
    pooled = functional.layer_norm(state.mean(dim=(2, 3)), (6,), side.last.weight, side.last.bias)
    expected = vit.head(vit.norm(x)[:, 0]) + pooled @ side.side_head.weight.T + side.side_head.bias
    assert torch.allclose(made(images), expected, atol=1e-5)


def test_the_side_network_of_a_vit_b_has_the_weights_that_its_page_says() -> None:
    with torch.device("meta"):
        import timm

        side = SideTuned(timm.create_model("vit_base_patch16_224", num_classes=0), 64, 100)
    own = sum(one.numel() for name, one in side.named_parameters() if not name.startswith("backbone."))
    assert 0.75e6 < own < 0.95e6


def test_a_side_network_is_not_added_where_something_walks_the_blocks() -> None:
    host = rv.transformed(vits.made(vits.HOSTS["plain"]), "tome", r=2)
    with pytest.raises(HostRefused, match="walks its blocks already"):
        rv.transformed(host, "side")


@pytest.mark.parametrize("make", ["plain", "distilled", "swin", "cnn"])
def test_a_new_head_has_its_classes_and_keeps_the_rest(make: str) -> None:
    host = vits.made(vits.HOSTS[make])
    made, again = (rv.transformed(host, "new_head", classes=7) for _ in range(2))
    images = vits.images(2)
    assert made(images).shape == (2, 7)
    assert torch.equal(made(images), again(images)), "the same weights each time"
    shared = {name: one for name, one in host.model.state_dict().items() if made.model.state_dict()[name].shape == one.shape}
    assert all(torch.equal(made.model.state_dict()[name], one) for name, one in shared.items() if "head" not in name)


def test_a_model_without_a_linear_head_gets_none() -> None:
    bare = vits.made(lambda: nn.Sequential(nn.Conv2d(3, 5, 32), nn.Flatten()))
    with pytest.raises(HostRefused, match=r"'new_head' does not take 'toy'.*no linear layer"):
        rv.transformed(bare, "new_head", classes=7)
