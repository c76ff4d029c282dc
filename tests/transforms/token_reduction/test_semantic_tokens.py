"""Pooling over the grid of patches, beside means by loops over windows."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from reduction import Step, ledger, reference
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.surgery.token_costs import Costs
from robustvit.primitives.surgery.tokens import Tokens
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.semantic_tokens import GridPooling, semantic_tokens

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def pooled(tokens: Tensor, side: int, rows: int = 4, columns: int = 4) -> Tensor:
    """Window i of s over L entries is ⌊iL/s⌋ … ⌈(i+1)L/s⌉, in both directions."""
    means = []
    for i in range(side):
        for j in range(side):
            window = [
                tokens[y * columns + x]
                for y in range(math.floor(i * rows / side), math.ceil((i + 1) * rows / side))
                for x in range(math.floor(j * columns / side), math.ceil((j + 1) * columns / side))
            ]
            means.append(sum(window) / len(window))
    return torch.stack(means)


def behind_the_first(side: int):
    def after(step: Step) -> tuple[Tensor, Tensor]:
        if step.index:
            return step.tokens, step.sizes
        patches = pooled(step.tokens[step.prefix :], side)
        return torch.cat((step.tokens[: step.prefix], patches)), torch.ones(step.prefix + len(patches))

    return after


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("side", [1, 2, 3])
def test_it_is_the_same_means_by_loops(make, side) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(vits.TILE)
    made = semantic_tokens(host, count=side * side, at=1)
    wanted = reference(host, pixels, after=behind_the_first(side))
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


def test_before_the_first_block_and_on_a_grid_that_is_not_square() -> None:
    host, pixels = vits.made(lambda: vits.vit(patch_size=(8, 4))), vits.images(vits.TILE)  # 4 rows of 8
    made, vit = semantic_tokens(host, count=9, at=0), host.model
    logits = made(pixels)
    for row, image in enumerate((pixels - host.mean) / host.std):
        tokens = vit._pos_embed(vit.patch_embed(image[None]))[0]
        short = torch.cat((tokens[:1], pooled(tokens[1:], 3, 4, 8)))
        assert torch.allclose(logits[row], vit.forward_head(vit.norm(vit.blocks(short[None])))[0], atol=1e-4)
    assert made.model.counted["tokens"].tolist() == [[10.0] * 3] * vits.TILE
    assert not made.model.patches_left.any()


def test_as_many_tokens_as_patches_are_the_host() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    assert torch.allclose(semantic_tokens(host, count=16, at=2)(pixels), host(pixels), atol=1e-5)


def test_the_cost_is_that_of_the_tokens_that_are_left() -> None:
    tokens, macs, everything = ledger("small", GridPooling(4, (14, 14), 4))
    assert tokens == [197] * 4 + [17] * 8
    blocks = sum(12 * count * 384**2 + 2 * count**2 * 384 for count in tokens)
    assert macs == pytest.approx((384 * 768 * 196 + blocks + 384 * 1000) / 1e9, rel=1e-6)
    assert everything - macs == pytest.approx(16 * 196 * 384 / 1e9, rel=1e-3)  # the product that takes the means


def test_other_reducers_go_on_from_there() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    made = evit(semantic_tokens(host, count=9, at=1), keep=0.5, blocks=(1,), fuse=False)
    made(pixels)
    assert made.model.counted["tokens"].tolist() == [[17.0, 6.0, 6.0]] * vits.TILE


def test_tokens_are_pooled_by_place_and_stand_for_equal_shares() -> None:
    draw = torch.Generator().manual_seed(0)
    tokens = Tokens.of(torch.randn(2, 17, 6, generator=draw), 1, Costs(0))
    tokens = tokens.having(columns={"value_norms": tokens.values[:, :, 0]})
    order = torch.stack([torch.randperm(16, generator=draw) for _ in range(2)])
    found = GridPooling(3, (4, 4), 1).after_block(0, tokens.take(order))
    for row in range(2):
        assert torch.allclose(found.values[row, 1:], pooled(tokens.values[row, 1:], 3), atol=1e-6)
        assert torch.equal(found.values[row, 0], tokens.values[row, 0])
    assert torch.allclose(found.columns["value_norms"], found.values[:, :, 0], atol=1e-6)
    assert torch.allclose(found.sizes, torch.tensor([1.0] + [16 / 9] * 9).expand(2, -1))
    assert found.merged


def test_a_quantised_host_is_pooled_alike_in_both_orders() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    first, second = dynamic_int8(semantic_tokens(host, count=4, at=1)), semantic_tokens(dynamic_int8(host), count=4, at=1)
    assert torch.allclose(first(pixels), second(pixels), atol=1e-5)
    assert (first(pixels) - semantic_tokens(host, count=4, at=1)(pixels)).abs().max() > 1e-4


@pytest.mark.parametrize(("settings", "message"), [
    ({"count": 5, "at": 1}, r"count is 5; on the grid of 4x4 patches of model 'toy' it takes 0, 1, 4, 9, 16"),
    ({"count": 25, "at": 1}, r"count is 25; .* takes 0, 1, 4, 9, 16"),
    ({"count": 4, "at": 3}, "at is 3; it takes one of the 3 blocks of model 'toy', counted from 0: 0 … 2"),
])  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(settings, message) -> None:
    with pytest.raises(BadParameter, match=message):
        semantic_tokens(vits.made(vits.vit), **settings)


def test_tokens_that_are_reduced_before_are_refused_by_the_forward_pass() -> None:
    made = semantic_tokens(evit(vits.made(vits.vit), keep=0.5, blocks=(0,), fuse=False), count=4, at=1)
    with pytest.raises(BadParameter, match="8 patch tokens are left before block 1, and it pools the whole grid of 4x4"):
        made(vits.images(1))
