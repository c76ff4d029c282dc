"""Learned semantic tokens, beside cross-attention by loops over heads and queries, and the first step of learning by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import vits
from exact import few
from reduction import Step, ledger, reference, unlearned
from timm.layers import GluMlp
from torch import Tensor

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import NO_CLASS, Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.spec.sample_order import order
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.token_reduction.cross_attention import tensors_of
from robustvit.transforms.token_reduction.evit import evit
from robustvit.transforms.token_reduction.semantic_tokens import semantic_tokens
from robustvit.transforms.token_reduction.stvit import SemanticAttention, divergence, initial, learn_tokens, stvit

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]
DATA = few(torch.full((12,), NO_CLASS), vits.SIDE)
SETTINGS: dict[str, Any] = {"count": 4, "at": 1, "samples": 12, "steps": 1}


def drawn(host: Classifier, count: int, at: int = 1) -> dict[str, Tensor]:
    """Tensors far from those that learning starts from."""
    draw = torch.Generator().manual_seed(0)
    start = initial(host, count, at)
    return {name: one + 0.3 * torch.randn(one.shape, generator=draw, dtype=one.dtype) for name, one in start.items()}


def made(host: Classifier, artifact: dict[str, Tensor], **changed: Any) -> Classifier:
    return stvit(host, artifact, calibration=DATA, **SETTINGS | changed)


def learned(host: Classifier, seen: list[int] | None = None, **changed: Any) -> dict[str, Tensor]:
    def load(data: Any, positions: np.ndarray) -> Batch:
        if seen is not None:
            seen.extend(positions.tolist())
        return Batch(vits.images(12)[positions], torch.full((len(positions),), NO_CLASS), tuple(data.ids[i] for i in positions))

    return learn_tokens(host, load, Draws(0, "learn", ["learn"]), calibration=DATA, **SETTINGS | changed)


def quarters(patches: Tensor) -> Tensor:
    """Means over the quarters of a grid of 4x4."""
    return torch.stack([patches[[first, first + 1, first + 4, first + 5]].mean(dim=0) for first in (0, 2, 8, 10)])


def norm(of: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    if f"{name}.weight" not in weights:
        return of
    centred = of - of.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def affine(of: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return weights[f"{name}.weight"] @ of + weights[f"{name}.bias"]


def crossed(tokens: Tensor, context: Tensor, weights: dict[str, Tensor], heads: int = 2) -> Tensor:
    """One block, query by query and head by head."""
    keyed = [affine(norm(one, weights, "norm1"), weights, "key_value") for one in context]
    width, done = len(keyed[0]) // 2, []
    each = width // heads
    for token in tokens:
        query, parts = affine(norm(token, weights, "norm1"), weights, "query"), []
        for head in range(heads):
            own = slice(head * each, (head + 1) * each)
            asked = norm(query[own], weights, "q_norm")
            scores = [float(asked @ norm(one[:width][own], weights, "k_norm")) / math.sqrt(each) for one in keyed]
            shares = [math.exp(score - max(scores)) for score in scores]
            parts.append(sum(share * one[width:][own] for share, one in zip(shares, keyed, strict=True)) / sum(shares))
        once = token + weights["scale1"] * affine(torch.cat(parts), weights, "proj")
        hidden = affine(norm(once, weights, "norm2"), weights, "fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        done.append(once + weights["scale2"] * affine(hidden, weights, "fc2"))
    return torch.stack(done)


@torch.no_grad()
@pytest.mark.parametrize("make", HOSTS)
def test_it_is_cross_attention_by_loops(make) -> None:
    host, pixels = vits.made(vits.HOSTS[make], sharp=2.0), vits.images(2)
    artifact = drawn(host, 4)
    first, second = ({name.removeprefix(f"{place}."): one for name, one in artifact.items()} for place in ("first", "second"))

    def after(step: Step) -> tuple[Tensor, Tensor]:
        if step.index:
            return step.tokens, step.sizes
        patches = step.tokens[step.prefix :]
        begun = quarters(patches)
        once = crossed(begun, torch.cat((begun, patches)), first)
        semantic = crossed(once + artifact["embedding"], torch.cat((once, patches)), second)
        return torch.cat((step.tokens[: step.prefix], semantic)), torch.ones(step.prefix + 4)

    wanted, model = reference(host, pixels, after=after), made(host, artifact)
    assert torch.allclose(model(pixels), wanted.logits, atol=1e-3)
    assert (model(pixels) - semantic_tokens(host, count=4, at=1)(pixels)).abs().max() > 0.01
    assert model.model.counted["tokens"][:2].tolist() == wanted.counts


def test_before_the_first_step_it_pools() -> None:
    host, pixels = vits.made(vits.vit), vits.images(3)
    for at in (0, 1, 2):
        start = made(host, initial(host, 9, at), count=9, at=at)
        assert torch.allclose(start(pixels), semantic_tokens(host, count=9, at=at)(pixels), atol=1e-2)


def test_the_cost_holds_both_blocks() -> None:
    tensors = tensors_of(unlearned("deit_small_patch16_224").blocks[4], 1e-5)
    both = {f"{place}.{name}": one for place in ("first", "second") for name, one in tensors.items()}
    both["embedding"] = torch.empty(16, 384, device="meta")
    like = unlearned("deit_small_patch16_224").blocks[4]
    tokens, gmacs, everything = ledger("small", SemanticAttention(4, (14, 14), 4, like, both))
    assert tokens == [197] * 4 + [17] * 8
    blocks = sum(12 * count * 384**2 + 2 * count**2 * 384 for count in tokens)
    keys, queries = (16 + 196) * 2 * 384**2, 16 * (2 + 8) * 384**2  # keys and values; queries, projection and MLP
    cross = 2 * (keys + queries + 2 * 16 * (16 + 196) * 384)
    assert gmacs == pytest.approx((384 * 768 * 196 + blocks + 384 * 1000 + cross) / 1e9, rel=1e-6)
    assert everything - gmacs == pytest.approx(16 * 196 * 384 / 1e9, rel=1e-3)  # the product that takes the means


def test_the_first_step_is_that_of_adam_down_the_divergence_from_the_host() -> None:
    host = vits.made(vits.HOSTS["plain"], sharp=2.0)
    pixels, embedding = vits.images(12)[order(DATA.ids)[:4]], torch.zeros(4, 24, requires_grad=True)

    def after(step: Step) -> tuple[Tensor, Tensor]:
        if step.index:
            return step.tokens, step.sizes
        return torch.cat((step.tokens[:1], quarters(step.tokens[1:]) + embedding)), torch.ones(5)

    logits, wanted = reference(host, pixels, after=after).logits, host(pixels).softmax(dim=1)
    loss = sum((wanted[i] * (wanted[i].log() - logits[i].log_softmax(dim=0))).sum() for i in range(4)) / 4
    slope = torch.autograd.grad(loss, embedding)[0]
    clear = slope.abs() > 0.01 * slope.abs().max()
    moved = learned(host, samples=4)["embedding"]
    assert torch.allclose(moved[clear], -0.01 * slope.sign()[clear], atol=1e-4)


def test_learning_brings_predictions_nearer_to_the_hosts_and_weights_move_less_than_what_is_new() -> None:
    host, pixels = vits.made(vits.HOSTS["plain"], sharp=2.0), vits.images(12)
    seen: list[int] = []
    start, after = initial(host, 4, 1), learned(host, seen, samples=8, steps=30)
    assert len(seen) == 30 * vits.TILE
    assert set(seen) == set(order(DATA.ids)[:8].tolist())
    before, behind = (float(divergence(made(host, one), host, pixels[list(set(seen))])) for one in (start, after))
    assert behind < 0.5 * before
    moved = {name: float((one - start[name]).abs().max()) for name, one in after.items()}
    assert 0.01 < moved["embedding"] < 0.3
    assert 0.01 < moved["first.scale1"] < 0.3
    assert 0 < max(moved[name] for name in moved if "scale" not in name and name != "embedding") < 30 * 3.1e-4


def test_what_it_learns_is_the_same_again() -> None:
    host = vits.made(vits.HOSTS["plain"])
    once, again = learned(host, steps=3), learned(host, steps=3)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_it_learns_on_quantised_and_on_reduced_models_and_both_go_on_from_it() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    quantised = dynamic_int8(host)
    weights = initial(quantised, 4, 1)
    joined = torch.cat((weights["first.query.weight"], weights["first.key_value.weight"]))
    assert torch.equal(joined, quantised.model.blocks[1].attn.qkv.weight)
    assert bool((joined != host.model.blocks[1].attn.qkv.weight).any())
    assert torch.isfinite(made(quantised, learned(quantised))(pixels)).all()
    reduced = evit(host, keep=0.5, blocks=(2,), fuse=False)
    both = made(reduced, learned(reduced))
    both(pixels)
    assert both.model.counted["tokens"].tolist() == [[17.0, 5.0, 3.0]] * vits.TILE
    assert len(reduced.model.policies) == 1
    artifact = drawn(host, 4)
    after = dynamic_int8(made(host, artifact))
    assert float((after(pixels) - made(host, artifact)(pixels)).abs().max()) > 1e-4


@pytest.mark.parametrize(("settings", "message"), [
    ({"count": 5}, r"'stvit': count is 5; on the grid of 4x4 patches of model 'toy' it takes 0, 1, 4, 9, 16"),
    ({"at": 3}, "'stvit': at is 3; it takes one of the 3 blocks of model 'toy'"),
])  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(settings, message) -> None:
    host = vits.made(vits.vit)
    with pytest.raises(BadParameter, match=message):
        learned(host, **settings)
    with pytest.raises(BadParameter, match=message):
        made(host, {}, **settings)


def test_gated_mlps_and_tokens_that_are_reduced_before_are_refused() -> None:
    with pytest.raises(HostRefused, match="'stvit' does not take 'toy': its MLP is a GluMlp"):
        learned(vits.made(lambda: vits.vit(mlp_layer=GluMlp)))
    with pytest.raises(BadParameter, match="'stvit': 8 patch tokens are left before block 1"):
        learned(evit(vits.made(vits.vit), keep=0.5, blocks=(0,), fuse=False))
