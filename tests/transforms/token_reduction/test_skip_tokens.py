"""Skipping tokens, beside blocks that are given some of the tokens by hand."""

from __future__ import annotations

import pytest
import torch
import vits
from reduction import class_attention, ledger, reference
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.skip_tokens import Bypass, skip_tokens

HOSTS = {name: make for name, make in vits.HOSTS.items() if name not in ("swin", "eva", "cnn")}


def skipped(host, pixels: Tensor, count: int, first: int, last: int) -> Tensor:
    """Blocks first … last compute all but the `count` least attended patches, whose values wait."""
    vit, logits = host.model, []
    for image in (pixels - host.mean) / host.std:
        steps = []
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(image[None])))
        reference(host, (image * host.std + host.mean), middle=lambda step, steps=steps: (steps.append(step), (step.tokens, step.sizes))[1])
        attention = class_attention(steps[first - 1], vit)
        patches = sorted(range(vit.num_prefix_tokens, tokens.shape[1]), key=lambda at: -float(attention[at]))
        going = sorted([*range(vit.num_prefix_tokens), *patches[: len(patches) - count]])
        for index, block in enumerate(vit.blocks):
            if first <= index <= last:
                tokens = tokens.clone()
                tokens[:, going] = block(tokens[:, going])
            else:
                tokens = block(tokens)
        logits.append(vit.forward_head(vit.norm(tokens)))
    return torch.cat(logits)


@pytest.mark.parametrize("make", HOSTS)
def test_the_least_attended_tokens_wait_for_the_others(make) -> None:
    host, pixels = vits.made(HOSTS[make]), vits.images(vits.TILE)
    assert torch.allclose(skip_tokens(host)(pixels), skipped(host, pixels, 8, 1, 1), atol=1e-4)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 2), (2, 2), (1, 3)])
def test_they_rejoin_after_the_last_block(first, last) -> None:
    host, pixels = vits.made(lambda: vits.vit(depth=4, class_token=False, global_pool="avg")), vits.images(vits.TILE)
    made = skip_tokens(host, share=0.25, first=first, last=last)
    assert torch.allclose(made(pixels), skipped(host, pixels, 4, first, last), atol=1e-4)
    assert made.model.counted["tokens"][0].tolist() == [12.0 if first <= block <= last else 16.0 for block in range(4)]
    assert made.model.patches_left.all()


def test_two_of_them_may_overlap_and_the_tokens_return_to_their_places() -> None:
    host, pixels = vits.made(lambda: vits.vit(depth=4)), vits.images(vits.TILE)
    inner = skip_tokens(skip_tokens(host, share=0.5, first=1, last=3), share=0.5, first=2, last=2)
    inner(pixels)
    assert inner.model.counted["tokens"][0].tolist() == [17.0, 9.0, 5.0, 9.0]
    assert inner.model.patches_left.all()
    outer = skip_tokens(skip_tokens(host, share=0.5, first=2, last=2), share=0.5, first=1, last=3)
    assert torch.equal(outer(pixels), inner(pixels))


def test_tokens_that_wait_are_not_dropped_meanwhile() -> None:
    host, pixels = vits.made(lambda: vits.vit(depth=4)), vits.images(vits.TILE)
    made = evit(skip_tokens(host, share=0.5, first=1, last=2), keep=0.5, blocks=(2,), fuse=False)
    made(pixels)
    assert made.model.counted["tokens"][0].tolist() == [17.0, 9.0, 5.0, 13.0]


def test_the_cost_is_that_of_the_tokens_that_go_on() -> None:
    tokens, macs, everything = ledger("small", Bypass(0.55, 5, 9))
    assert tokens == [197] * 5 + [197 - 107] * 5 + [197] * 2
    per_token = 4 * 384**2 + 8 * 384**2
    assert macs == pytest.approx(4.598882 - 5 * (107 * per_token + 2 * 384 * (197**2 - 90**2)) / 1e9, rel=1e-5)
    assert everything == pytest.approx(macs + 6 * 197 * 64 / 1e9, rel=1e-5)  # the scores of one query of each head


@pytest.mark.parametrize("blocks", [{"first": 3}, {"last": 3}, {"first": 2, "last": 1}])
def test_blocks_that_are_not_there_are_refused(blocks) -> None:
    with pytest.raises(BadParameter, match=r"'skip_tokens': first is .*'toy' has 3 blocks.*1 ≤ first ≤ last ≤ 2"):
        skip_tokens(vits.made(vits.vit), **blocks)
