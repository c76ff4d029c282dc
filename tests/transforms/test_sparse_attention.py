"""Sparse attention, beside the same choice of keys by loops over queries."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from reduction import Step, reference
from torch import Tensor
from torch.nn import functional

from robustvit.primitives.inference.attention_maps import forward_with_attention
from robustvit.primitives.surgery.key_selection import restricted, selected_keys
from robustvit.transforms.attention import attention_temperature
from robustvit.transforms.quantisation.logarithmic import log2
from robustvit.transforms.sparse_attention import sparse_attention
from robustvit.transforms.token_reduction.evit import evit

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]


def sparse(keep: float):
    """Every head and query in turn: softmax over its ⌈keep · T⌉ largest scores, over all for a prefix token."""

    def inside(step: Step, block) -> tuple[Tensor, Tensor, Tensor]:
        count, heads, width = step.query.shape
        mixed = torch.zeros(count, heads, width)
        for head in range(heads):
            for at in range(count):
                scores = [float(step.query[at, head] @ step.key[to, head]) / math.sqrt(width) for to in range(count)]
                ranked = sorted(range(count), key=lambda to: -scores[to])
                kept = ranked if at < step.prefix else ranked[: math.ceil(keep * count)]
                total = sum(math.exp(scores[to] - max(scores)) for to in kept)
                for to in kept:
                    mixed[at, head] += math.exp(scores[to] - max(scores)) / total * step.value[to, head]
        return step.tokens, step.sizes, mixed.flatten(1)

    return inside


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize("keep", [0.25, 0.6])
def test_it_is_the_same_choice_by_loops(make, keep) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(2)
    made = sparse_attention(host, keep=keep)
    wanted = reference(host, pixels, inside=sparse(keep)).logits
    assert torch.allclose(made(pixels), wanted, atol=1e-4)
    assert (wanted - host(pixels)).abs().max() > 1e-3


@pytest.mark.parametrize("make", ["plain", "average-pooled", "distilled"])
def test_captured_maps_have_no_more_entries_than_keys_are_kept(make) -> None:
    host = vits.made(vits.HOSTS[make], sharp=1.0)
    prefix = host.model.num_prefix_tokens
    maps = forward_with_attention(sparse_attention(host, keep=0.25), vits.images(2)).maps
    assert len(maps) == 2
    for found in maps:
        entries = (found > 0).sum(dim=-1)
        assert (entries[..., prefix:] == math.ceil((16 + prefix) / 4)).all()
        assert (entries[..., :prefix] == 16 + prefix).all()


def test_a_boolean_mask_is_a_score_of_minus_infinity() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 9, 4, generator=draw).unbind(0)
    chosen = selected_keys(query, key, 0.25, 1)
    assert chosen.sum(dim=-1).tolist() == [[[9] + 8 * [3]] * 2] * 2
    scores = torch.einsum("nhqd,nhkd->nhqk", query, key) / 2
    wanted = scores.masked_fill(~chosen, -torch.inf).softmax(dim=-1) @ value
    assert torch.allclose(functional.scaled_dot_product_attention(query, key, value, attn_mask=chosen), wanted, atol=1e-6)


def test_of_equal_scores_the_first_keys_are_kept() -> None:
    chosen = selected_keys(torch.zeros(1, 1, 8, 4), torch.ones(1, 1, 8, 4), 0.3, 0)
    assert chosen[0, 0].tolist() == [[True] * 3 + [False] * 5] * 8


def test_a_bias_has_its_say_in_the_choice_and_stays() -> None:
    query, key = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    bias = torch.tensor([0.0, 1.0, 0.0, 2.0]).expand(1, 1, 1, 4)
    chosen = selected_keys(query, key, 0.5, 0, bias)
    assert chosen[0, 0, 0].tolist() == [False, True, False, True]
    assert restricted(bias, chosen)[0, 0, 0].tolist() == [-math.inf, 1.0, -math.inf, 2.0]
    open_to = torch.tensor([False, False, True, True]).expand(1, 1, 4, 4)
    chosen = selected_keys(query, key, 0.25, 1, open_to)
    assert chosen[0, 0, 1].tolist() == [False, False, True, False]
    assert restricted(open_to, chosen)[0, 0, :2].tolist() == [[False, False, True, True], [False, False, True, False]]


def test_scores_are_scaled_before_a_bias_is_added() -> None:
    query, key = torch.full((1, 1, 2, 4), 1.0), torch.tensor([[1.0] * 4, [0.0] * 4])[None, None]
    for bias, first in ((1.9, True), (2.1, False)):  # the first score is 4 / √4
        chosen = selected_keys(query, key, 0.5, 0, torch.tensor([[0.0, bias]]))
        assert chosen[0, 0].tolist() == [[first, not first]] * 2


def test_the_smaller_share_of_two_holds() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    wanted = sparse_attention(host, keep=0.25)(pixels)
    for first, second in ((0.25, 0.6), (0.6, 0.25)):
        assert torch.equal(sparse_attention(sparse_attention(host, keep=first), keep=second)(pixels), wanted)


def test_a_temperature_before_and_after_is_one() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    first = attention_temperature(sparse_attention(host), temperature=2.0)(pixels)
    assert torch.allclose(first, sparse_attention(attention_temperature(host, temperature=2.0))(pixels), atol=1e-5)
    assert (first - sparse_attention(host)(pixels)).abs().max() > 1e-3


def test_a_quantised_map_is_the_sparse_one_in_both_orders() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    first = log2(sparse_attention(host), bits=3)(pixels)
    assert torch.equal(first, sparse_attention(log2(host, bits=3))(pixels))
    assert all((first - other(pixels)).abs().max() > 1e-3 for other in (sparse_attention(host), log2(host, bits=3)))


@pytest.mark.parametrize("make", ["plain", "average-pooled"])
def test_tokens_that_are_left_attend_to_a_share_of_those_that_are_left(make) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(2)
    made = sparse_attention(evit(host, keep=0.5, blocks=(0,), fuse=False), keep=0.25)

    def middle(step: Step) -> tuple[Tensor, Tensor]:
        if step.index:
            return step.tokens, step.sizes
        query = step.query[:1] if step.prefix else step.query.mean(dim=0, keepdim=True)
        attention = (torch.einsum("qhd,khd->hqk", query, step.key) / math.sqrt(12)).softmax(dim=-1).mean(dim=(0, 1))[step.prefix :]
        kept = [at + step.prefix for at in sorted(range(16), key=lambda at: -float(attention[at]))[:8]]
        return step.tokens[[*range(step.prefix), *kept]], step.sizes[: step.prefix + 8]

    assert torch.allclose(made(pixels), reference(host, pixels, inside=sparse(0.25), middle=middle).logits, atol=1e-4)
