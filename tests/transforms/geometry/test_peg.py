"""CPVT's position encoding generator against sums over neighbours, at weights of zero, and under shifts of whole patches."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import vits
from torch import nn

from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.primitives.structure.position_convolution import PositionConvolution
from robustvit.transforms.geometry.peg import peg

HOSTS = ["plain", "registers", "distilled", "average-pooled", "layer-scale"]


@pytest.mark.parametrize("circular", [False, True])
def test_each_token_gets_a_weighted_sum_of_the_nine_around_it(circular: bool) -> None:
    layer, features = PositionConvolution(2, circular), torch.randn(1, 2, 3, 4)
    with torch.no_grad():
        found = layer(features)
        for channel, i, j in product(range(2), range(3), range(4)):
            total = features[0, channel, i, j] + layer.conv.bias[channel]  # type: ignore[index]
            for dy, dx in product((-1, 0, 1), repeat=2):
                if circular or (0 <= i + dy < 3 and 0 <= j + dx < 4):
                    total = total + layer.conv.weight[channel, 0, dy + 1, dx + 1] * features[0, channel, (i + dy) % 3, (j + dx) % 4]
            assert float((found[0, channel, i, j] - total).abs()) < 1e-5


@pytest.mark.parametrize("name", HOSTS)
def test_weights_of_zero_leave_the_host_without_positions(name: str) -> None:
    host = vits.made(vits.HOSTS[name])
    model, pixels = peg(host, at=(0, 1)), vits.images(2)
    bare: Any = vits.made(vits.HOSTS[name])
    with torch.no_grad():
        bare.model.pos_embed.zero_()
        for part in model.modules():
            if isinstance(part, PositionConvolution):
                part.conv.weight.zero_()
                part.conv.bias.zero_()  # type: ignore[union-attr]
    torch.testing.assert_close(model(pixels), bare(pixels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("circular", [False, True])
def test_logits_stay_under_shifts_of_whole_patches_where_it_pads_circularly(name: str, circular: bool) -> None:
    pool = "own" if name == "distilled" else "mean"
    model = peg(vits.made(vits.HOSTS[name]), circular=circular, pool=pool)  # type: ignore[arg-type]
    pixels = vits.images(2)
    logits = model(pixels)
    apart = max(float((model(pixels.roll(shift, dims=(2, 3))) - logits).abs().max()) for shift in ((8, 0), (0, 16), (24, 8)))
    assert (apart < 1e-5) is circular
    assert float((model(pixels.roll((1, 3), dims=(2, 3))) - logits).abs().max()) > 1e-3


def test_it_stands_behind_its_blocks_and_keeps_prefix_tokens() -> None:
    model: Any = peg(vits.made(vits.HOSTS["plain"]), at=(1,)).model
    tokens = torch.randn(1, 17, 24)
    assert type(model.blocks[0]).__name__ == "Block"
    before, after = model.blocks[1].block(tokens), model.blocks[1](tokens)
    assert torch.equal(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1:], model.blocks[1].positions(before[:, 1:].mT.unflatten(2, (4, 4))).flatten(2).mT)


def test_it_takes_larger_images_where_the_model_does() -> None:
    model: Any = peg(vits.made(lambda: vits.vit(depth=1, dynamic_img_size=True))).model
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(ModelError, match="takes all 4x4 patch tokens of an image, not 15"):
        model.blocks[0](torch.zeros(1, 16, 24))


def test_what_it_does_not_take() -> None:
    host = vits.made(vits.HOSTS["plain"])
    with pytest.raises(BadParameter, match="'peg': at is \\[7\\]"):
        peg(host, at=(7,))
    with pytest.raises(HostRefused, match="reads two tokens"):
        peg(vits.made(vits.HOSTS["distilled"]), pool="mean")
    with pytest.raises(HostRefused, match="no learned position embedding"):
        peg(peg(host))
    assert isinstance(host.model.pos_embed, nn.Parameter)
