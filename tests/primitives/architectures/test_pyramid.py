"""The skeleton of architectures: its stages, positions and heads, with mixers that do nothing or attend."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustvit.errors import BadParameter
from robustvit.primitives.architectures.pyramid import GlobalAttention, PatchMap, Positions, Pyramid


class Halved(nn.Module):
    """Every second row and column, twice as wide."""

    def forward(self, tokens):
        return torch.cat((tokens, -tokens), dim=3)[:, ::2, ::2]


class Nothing(nn.Module):
    def forward(self, tokens):
        return torch.zeros_like(tokens)


def pyramid(positions: Positions, mixer=lambda stage, width: Nothing(), size=(16, 16)) -> Pyramid:
    torch.manual_seed(0)
    return Pyramid(
        PatchMap(2, 4), [Halved()], mixer, widths=[4, 8], depths=[1, 2], size=size, num_classes=3, positions=positions
    ).double().eval()  # fmt: skip


def pixels(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("positions", ["none", "learned", "peg"])
def test_stages_have_their_maps_and_widths(positions) -> None:
    found = pyramid(positions).maps(pixels(16, 16))
    assert [tuple(one.shape) for one in found] == [(2, 8, 8, 4), (2, 4, 4, 8)]


def test_a_stage_is_mixer_and_feed_forward_around_norms() -> None:
    net = pyramid("none", lambda stage, width: GlobalAttention(width, 2))
    tokens = net.embed(pixels(16, 16))
    block = net.stages[0].blocks[0]
    mixed = tokens + block.mixer.attn(block.norm1(tokens).reshape(2, 64, 4)).reshape(2, 8, 8, 4)
    assert torch.allclose(net.maps(pixels(16, 16))[0], mixed + block.mlp(block.norm2(mixed)), atol=1e-12)


def test_learned_positions_are_added_where_a_stage_begins() -> None:
    net = pyramid("learned")
    for block in (block for stage in net.stages for block in stage.blocks):
        nn.init.zeros_(block.mlp.fc2.weight)
    first = net.embed(pixels(16, 16)) + net.stages[0].position
    second = Halved()(first) + net.stages[1].position
    assert [torch.equal(one, other) for one, other in zip(net.maps(pixels(16, 16)), (first, second), strict=True)] == [True, True]
    assert torch.allclose(net(pixels(16, 16)), net.head(net.norm(second).flatten(1, 2).mean(dim=1)))
    assert [tuple(stage.position.shape) for stage in net.stages] == [(1, 8, 8, 4), (1, 4, 4, 8)]


def test_peg_is_a_depth_wise_convolution_after_the_first_block() -> None:
    net, tokens = pyramid("peg"), pixels(8, 8)[:, :1].expand(2, 4, 8, 8).permute(0, 2, 3, 1)
    for block in net.stages[1].blocks:
        nn.init.zeros_(block.mlp.fc2.weight)
    tokens = torch.cat((tokens, tokens), dim=3)
    kernel, wanted = net.stages[1].peg.weight, tokens + net.stages[1].peg.bias
    padded = nn.functional.pad(tokens, (0, 0, 1, 1, 1, 1))
    for row in range(3):
        for column in range(3):
            wanted = wanted + kernel[:, 0, row, column] * padded[:, row : row + 8, column : column + 8]
    assert torch.allclose(net.stages[1](tokens), wanted, atol=1e-12)


def test_other_sizes_of_images_fit_unless_positions_are_learned() -> None:
    assert all(pyramid(positions)(pixels(24, 16)).shape == (2, 3) for positions in ("none", "peg"))
    with pytest.raises(RuntimeError):
        pyramid("learned")(pixels(24, 16))


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadParameter, match="2 widths, 1 depths and 1 merges"):
        Pyramid(PatchMap(2, 4), [Halved()], lambda *_: Nothing(), widths=[4, 8], depths=[1], size=(8, 8), num_classes=3)
