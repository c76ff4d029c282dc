"""Multi-criteria fusion, beside the same by loops over pairs."""

from __future__ import annotations

import itertools

import pytest
import torch
import vits
from reduction import Step, ledger, reference
from torch import Tensor
from torch.nn.functional import cosine_similarity

from robustvit.errors import BadParameter
from robustvit.transforms.token_reduction.mctf import Fusion, mctf

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def fused(r: int, blocks: tuple[int, ...], taus=(1.0, 20.0, 40.0), bidirectional: bool = True):
    """Lee et al., sections 3.2 to 3.4: weights of pairs, two rounds of matching, and the map that is merged ahead."""

    def inside(step: Step, block) -> tuple[Tensor, Tensor, Tensor]:
        x, attention = step.tokens, step.map
        total, fewer = len(x), min(r, len(x) - 10, (len(x) - step.prefix) // 2)
        groups = [[at] for at in range(total)]
        if step.index in blocks and fewer > 0:
            groups = [[at] for at in range(step.prefix)] + grouped(step, fewer, taus, bidirectional)
        received = attention.mean(dim=(0, 1))
        weight = received * step.sizes
        mean = [torch.stack([weight[at] * x[at] for at in of]).sum(dim=0) / weight[of].sum() for of in groups]
        sizes, tokens = torch.stack([step.sizes[of].sum() for of in groups]), torch.stack(mean)
        merged = torch.zeros(len(attention), len(groups), len(groups))
        for row, asking in enumerate(groups):
            for column, asked in enumerate(groups):
                merged[:, row, column] = sum(weight[at] * attention[:, at, asked].sum(dim=1) for at in asking) / weight[asking].sum()
        width = block.attn.num_heads * block.attn.head_dim
        value = block.attn.qkv(block.norm1(tokens))[:, 2 * width :].unflatten(1, (block.attn.num_heads, -1))
        return tokens, sizes, torch.einsum("hqk,khd->qhd", merged, value).flatten(1)

    return inside


def grouped(step: Step, r: int, taus, bidirectional: bool) -> list[list[int]]:
    """Which patches become one, in the order in which they go on."""
    received = step.map.mean(dim=(0, 1))
    evens, odds = ([at for at in range(step.prefix, len(step.tokens)) if at % 2 == odd] for odd in (0, 1))

    def score(a: int, b: int) -> float:
        parts = [(cosine_similarity(step.tokens[a], step.tokens[b], dim=0) + 1) / 2]
        for one in (1 / received, 1 / step.sizes):
            parts.append(one[a] * one[b] / one.max() ** 2)
        return float(torch.stack([part ** (1 / tau) for part, tau in zip(parts, taus, strict=True) if tau]).prod())

    pair = {(a, b): score(a, b) for a in evens for b in odds}
    forth = r // 2 if bidirectional else r
    to = {a: max(odds, key=lambda b, a=a: pair[a, b]) for a in evens}
    gone = sorted(evens, key=lambda a: -pair[a, to[a]])[:forth]
    stay = [a for a in evens if a not in gone]
    back = {b: max(stay, key=lambda a, b=b: pair[a, b]) for b in odds}
    order = sorted(odds, key=lambda b: -pair[back[b], b])
    returned = order[: r - forth]
    absorbed = {b: [b, *(a for a in gone if to[a] == b)] for b in odds}
    evens_left = [[a, *(at for b in returned if back[b] == a for at in absorbed[b])] for a in stay]
    return evens_left + [absorbed[b] for b in order[r - forth :]]


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("settings", [{}, {"bidirectional": False}], ids=["both-ways", "one-way"])
def test_it_is_the_same_fusion_by_loops(make, settings) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(vits.TILE)
    wanted = reference(host, pixels, inside=fused(5, (0, 1), **settings), proportional=True, by_size=True)
    made = mctf(host, r=5, blocks=(0, 1), **settings)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert made.model.counted["tokens"].tolist() == wanted.counts


@pytest.mark.parametrize("taus", [(0.0, 1.0, 1.0), (1.0, 0.0, 0.5), (1.0, 0.5, 0.0)])
def test_every_criterion_counts(taus) -> None:
    host, pixels = vits.made(lambda: vits.vit(depth=3), sharp=2.0), vits.images(vits.TILE)
    names = ("tau_similarity", "tau_information", "tau_size")
    made = mctf(host, r=4, **dict(zip(names, taus, strict=True)))
    wanted = reference(host, pixels, inside=fused(4, (1, 2), taus), proportional=True, by_size=True)
    assert torch.allclose(made(pixels), wanted.logits, atol=1e-4)
    assert (made(pixels) - mctf(host, r=4)(pixels)).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "gmacs", "heads"), [("tiny", 0.70, 3), ("small", 2.58, 6)])
def test_tokens_and_macs_are_those_of_the_ledger(name, gmacs, heads) -> None:
    tokens, found, everything = ledger(name, Fusion(16, (1.0, 20.0, 40.0), True, tuple(range(1, 12))))
    assert tokens == [197 - 16 * block for block in range(12)]
    assert found == pytest.approx(gmacs, abs=5e-3)
    width, extra = 64 * heads, 0
    for before, after in itertools.pairwise(tokens):
        cosines = (before - 1 - (before - 1) // 2) * ((before - 1) // 2) * width
        unused = (before + 2 * after) * width * width  # values of tokens that are merged, queries and keys of merged ones
        extra += cosines + unused
    assert everything == pytest.approx(found + extra / 1e9, rel=1e-5)


def test_ten_tokens_are_left() -> None:
    made = mctf(vits.made(lambda: vits.vit(depth=4)), r=6)
    made(vits.images(1))
    assert made.model.counted["tokens"][0].tolist() == [17.0, 11.0, 10.0, 10.0]


def test_blocks_that_are_not_there_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"transform 'mctf': blocks is \[3\]; it takes some of the 3 blocks"):
        mctf(vits.made(vits.vit), blocks=(3,))
