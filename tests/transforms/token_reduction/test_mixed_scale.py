"""Mixed-scale tokens, beside the same tokens made by loops over regions."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from reduction import ledger
from torch import Tensor
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.spec.view import View
from robustvit.transforms.attention import attention_temperature
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.mixed_scale import MixedScales, mixed_scale
from robustvit.transforms.token_reduction.visual_words import visual_words

HOSTS = {name: vits.HOSTS[name] for name in ("plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm")} | {
    "pre-norm": lambda: vits.vit(depth=2, pre_norm=True), "class-without-position": lambda: vits.vit(depth=2, no_embed_class=True),
    "any-size": lambda: vits.vit(depth=2, dynamic_img_size=True),
}  # fmt: skip


def mixed(vit, image: Tensor, share: float) -> tuple[Tensor, Tensor, list[int]]:
    """The tokens of a normalised image (3, 32, 32), their sizes, and the patches that are tokens themselves."""
    squares = [(y, x) for y in (0, 16) for x in (0, 16)]
    spread = []
    for y, x in squares:
        numbers = image[:, y : y + 16, x : x + 16].flatten().tolist()
        mean = sum(numbers) / len(numbers)
        spread.append(sum((number - mean) ** 2 for number in numbers) / len(numbers))
    coarse = sorted(sorted(range(4), key=lambda at: spread[at])[: math.ceil(4 * share)])
    members = [[8 * (at // 2) + 2 * (at % 2) + step for step in (0, 1, 4, 5)] for at in range(4)]
    fine = sorted(place for at in range(4) if at not in coarse for place in members[at])
    tokens, prefix, positions = vit.norm_pre(vit._pos_embed(vit.patch_embed(image[None]))), vit.num_prefix_tokens, vit.pos_embed[0, -16:]
    rows = [tokens[0, at] for at in range(prefix)] + [tokens[0, prefix + at] for at in fine]
    for at in coarse:
        y, x = squares[at]
        small = functional.interpolate(image[None, :, y : y + 16, x : x + 16], size=(8, 8), mode="area")[0]
        value = torch.einsum("chw,dchw->d", small, vit.patch_embed.proj.weight)
        bias = 0.0 if vit.patch_embed.proj.bias is None else vit.patch_embed.proj.bias
        rows.append(vit.norm_pre(value + bias + sum(positions[place] for place in members[at]) / 4))
    return torch.stack(rows), torch.tensor([1.0] * (prefix + len(fine)) + [4.0] * len(coarse)), fine


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("share", [0.5, 0.3, 1.0])
def test_it_is_the_same_tokens_by_loops(make, share) -> None:
    host, pixels = vits.made(HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    made = mixed_scale(host, share=share)
    logits, vit = made(pixels), host.model
    for row, image in enumerate((pixels - host.mean) / host.std):
        tokens, sizes, fine = mixed(vit, image, share)
        found = vit.norm(vit.blocks(tokens[None]))
        if vit.global_pool == "avg":
            first = vit.num_prefix_tokens
            wanted = vit.head(vit.fc_norm((found[:, first:] * sizes[None, first:, None]).sum(dim=1) / 16))
        else:
            wanted = vit.forward_head(found)
        assert torch.allclose(logits[row], wanted[0], atol=1e-4)
        assert made.model.counted["tokens"][row].tolist() == [len(tokens)] * len(vit.blocks)
        assert made.model.patches_left[row].nonzero()[:, 0].tolist() == fine


def test_flat_regions_are_coarse_and_of_equal_ones_the_first() -> None:
    host, pixels = vits.made(vits.vit), vits.images(1)
    pixels[:, :, 16:, :16] = 0.5
    made = mixed_scale(host, share=0.25)
    made(pixels)
    assert (~made.model.patches_left[0]).nonzero()[:, 0].tolist() == [8, 9, 12, 13]
    made(torch.zeros(1, 3, 32, 32))
    assert (~made.model.patches_left[0]).nonzero()[:, 0].tolist() == [0, 1, 4, 5]


def test_a_flat_image_is_embedded_alike_at_both_scales() -> None:
    host = vits.made(vits.vit)
    host.model.pos_embed.data.zero_()
    made, seen = mixed_scale(host, share=0.5), []
    made.model.vit.blocks[0].norm1.register_forward_pre_hook(lambda norm, given: seen.append(given[0]))
    made(torch.full((1, 3, 32, 32), 0.3))
    assert seen[0].shape[1:] == (11, 24)
    assert torch.allclose(seen[0][:, 2:], seen[0][:, 1:2].expand(-1, 9, -1), atol=1e-5)


def test_patches_that_are_not_square_have_regions_that_are_not() -> None:
    host, pixels = vits.made(lambda: vits.vit(patch_size=(4, 16))), vits.images(1)
    pixels[:, :, 8:16] = 0.5
    made = mixed_scale(host, share=0.25)
    made(pixels)
    assert (~made.model.patches_left[0]).nonzero()[:, 0].tolist() == [4, 5, 6, 7]


def test_the_cost_is_that_of_the_tokens_and_of_all_regions_embedded() -> None:
    tokens, macs, everything = ledger("small", MixedScales(25, (32, 32)))
    assert tokens == [1 + 4 * 24 + 25] * 12
    by_hand = 384 * 768 * (196 + 49) + 12 * (12 * 122 * 384**2 + 2 * 122**2 * 384) + 384 * 1000
    assert macs == pytest.approx(by_hand / 1e9, rel=1e-6)
    assert everything == pytest.approx(macs, rel=1e-6)


def test_other_reducers_go_on_from_there() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    made = evit(mixed_scale(host, share=0.5), keep=0.5, blocks=(1,))
    made(pixels)
    assert made.model.counted["tokens"].tolist() == [[11.0, 7.0, 7.0]] * vits.TILE
    words = visual_words(mixed_scale(host, share=0.5), {}, keep=0.5)  # tokens at no patch's place stay
    words(pixels)
    assert words.model.counted["tokens"].tolist() == [[6.0] * 3] * vits.TILE
    assert words.model.patches_left.sum(dim=1).tolist() == [3] * vits.TILE


@pytest.mark.parametrize("other", [dynamic_int8, lambda host: attention_temperature(host, temperature=2.0)])
def test_both_orders_are_one_model(other) -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    first, second = other(mixed_scale(host)), mixed_scale(other(host))
    assert torch.allclose(first(pixels), second(pixels), atol=1e-5)
    assert all((first(pixels) - alone(pixels)).abs().max() > 1e-3 for alone in (mixed_scale(host), other(host)))


@pytest.mark.parametrize(("side", "patch"), [((24, 32), 8), ((32, 24), 8), ((28, 28), 4)])
def test_odd_grids_are_refused_by_name(side, patch) -> None:
    host = vits.made(lambda: vits.vit(img_size=side, patch_size=patch))
    host.view = View(side, 32)
    with pytest.raises(HostRefused, match=rf"'mixed_scale' does not take 'toy': its images of {side[0]}x{side[1]} pixels"):
        mixed_scale(host)


def test_tokens_that_are_reduced_at_the_input_already_are_refused() -> None:
    host = vits.made(vits.vit)
    for first in (visual_words(host, {}, keep=0.5), mixed_scale(host)):
        with pytest.raises(HostRefused, match="'mixed_scale' does not take 'toy' after a transform that reduces tokens at the input"):
            mixed_scale(first, share=0.25)
    pixels = vits.images(2)
    assert torch.equal(mixed_scale(mixed_scale(host, share=0), share=0.5)(pixels), mixed_scale(host, share=0.5)(pixels))
    later = mixed_scale(evit(host, keep=0.5, blocks=(1,)), share=0.5)
    assert torch.equal(later(pixels), evit(mixed_scale(host, share=0.5), keep=0.5, blocks=(1,))(pixels))
