"""Token reorganisation, beside the same choice by loops over tokens."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from reduction import Step, class_attention, ledger, reference
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.surgery.token_merging import share_of
from robustvit.transforms.token_reduction.evit import AttentiveSelection, evit

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def reorganised(vit, keep: float, blocks: tuple[int, ...], fuse: bool):
    """Liang et al., section 3.2: the top k by the class token's attention, and the weighted sum of the others."""

    def hook(step: Step) -> tuple[Tensor, Tensor]:
        if step.index not in blocks:
            return step.tokens, step.sizes
        attention = class_attention(step, vit)
        patches = sorted(range(step.prefix, len(step.tokens)), key=lambda at: -float(attention[at]))
        kept = math.ceil(keep * len(patches))
        rows = [*step.tokens[: step.prefix], *(step.tokens[at] for at in patches[:kept])]
        if fuse:
            rows.append(sum(attention[at] * step.tokens[at] for at in patches[kept:]))
        return torch.stack(rows), torch.ones(len(rows))

    return hook


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("keep", "fuse"), [(0.7, True), (0.5, False)])
def test_it_is_the_same_choice_by_loops(make, keep, fuse) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(vits.TILE)
    wanted = reference(host, pixels, middle=reorganised(host.model, keep, (0, 1), fuse))
    made = evit(host, keep=keep, fuse=fuse)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


@pytest.mark.parametrize(("keep", "tokens", "gmacs"), [
    (0.9, (179, 163, 148), 4.022), (0.8, (159, 129, 105), 3.477), (0.7, (140, 100, 72), 3.029), (0.6, (120, 74, 46), 2.635),
    (0.5, (100, 52, 28), 2.309),
])  # fmt: skip
def test_tokens_and_macs_are_those_of_the_ledger(keep, tokens, gmacs) -> None:
    found, macs, everything = ledger("small", AttentiveSelection(keep, (3, 6, 9), True))
    assert found == [197] * 3 + [one for count in tokens for one in [count] * 3]
    assert macs == pytest.approx(gmacs, abs=5e-4)
    row = sum(6 * count * 64 for count in (197, *tokens[:2]))  # the scores of one query of each head
    assert everything == pytest.approx(macs + row / 1e9, rel=1e-4)


def test_which_patches_have_a_token_left_are_those_that_were_attended_to() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    made = evit(host, keep=0.25, blocks=(1,))
    made(pixels)
    seen = []
    reference(host, pixels, middle=lambda step: (seen.append(step), (step.tokens, step.sizes))[1])
    for left, step in zip(made.model.patches_left, [step for step in seen if step.index == 1], strict=True):
        assert set(left.nonzero()[:, 0].tolist()) == set(class_attention(step, host.model)[1:].topk(4).indices.tolist())


def test_equal_attention_keeps_the_first_tokens() -> None:
    host = vits.made(vits.pooled)
    for block in host.model.blocks:
        block.attn.qkv.weight[:48] = 0.0  # queries and keys of zero
        block.attn.qkv.bias[:48] = 0.0
    made = evit(host, keep=0.5, blocks=(0,))
    made(vits.images(2))
    assert made.model.patches_left.nonzero()[:8, 1].tolist() == list(range(8))


def test_a_share_of_a_whole_number_is_not_rounded_above_it() -> None:
    assert math.ceil(0.07 * 100) == 8
    assert share_of(100, 0.07) == 7
    assert share_of(256, 0.55) == 141


def test_blocks_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"transform 'evit': blocks is \[3, 6, 9\]; it takes some of the 3 blocks of model 'toy'"):
        evit(vits.made(vits.vit), blocks=(3, 6, 9))
