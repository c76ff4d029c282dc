"""Token reduction of compressed models, and compression of models whose tokens are reduced."""

from __future__ import annotations

import pytest
import torch
import vits

from robustvit.evaluation.cost.macs import count
from robustvit.primitives.surgery.pipelines import apply_transform
from robustvit.spec.binding import bind
from robustvit.spec.registry import lookup
from robustvit.spec.view import View
from robustvit.spec.written.call import called

OTHERS = ["dynamic_int8", "log2", "head_pruning(amount=0.5)", "low_rank", "attention_temperature(temperature=2)", "sparse_attention"]
REDUCERS = ["tome(r=4)", "mctf(r=4)", "evit", "ats"]


def applied(host, *names: str):
    for name in names:
        spec = called(name, "transform")
        host = apply_transform(host, bind(lookup("transform", spec.name), spec))
    return host


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("reducer", REDUCERS)
def test_both_orders_are_one_model_and_its_cost_is_that_of_its_layers(reducer, other) -> None:
    host, pixels = vits.made(vits.HOSTS["distilled"], sharp=2.0), vits.images(vits.TILE)
    first, second = applied(host, reducer, other), applied(host, other, reducer)
    assert torch.allclose(first(pixels), second(pixels), atol=1e-5)
    for alone in (applied(host, reducer), applied(host, other)):
        assert (first(pixels) - alone(pixels)).abs().max() > 1e-4
    if other.startswith("attention"):
        return
    macs = [torch.round(made.model.counted["gmacs"] * 1e9).tolist() for made in (first, second)]
    assert macs[0] == macs[1]
    everything = count(second.model, (vits.SIDE, vits.SIDE)).macs
    assert everything is None if reducer == "ats" else macs[1][0] <= everything < 1.25 * macs[1][0]


def wide() -> torch.nn.Module:
    """A ViT of 50 tokens and heads as wide as those of trained ones."""
    return vits.vit(img_size=56, embed_dim=128, depth=3)


@pytest.mark.parametrize(
    "reducer",
    [
        "tome(r=7)",
        "mctf(r=7)",
        "evit",
        "bat",
        "token_pooling(keep=0.1)",
        "token_pooling(centres=means)",
        "ats",
        "sparse_attention",
        "semantic_tokens(count=9, at=1)",
    ],
)
def test_a_row_is_the_same_at_every_place_of_a_batch(reducer) -> None:
    host = vits.made(wide, sharp=2.0)
    host.view = View((56, 56), 56)
    pixels, made = torch.rand(4, 3, 56, 56, generator=torch.Generator().manual_seed(0)), applied(host, reducer)
    logits = made(pixels)
    assert all(torch.equal(made(pixels.roll(places, 0)), logits.roll(places, 0)) for places in (1, 2, 3))


def test_reducers_follow_each_other_in_one_runner() -> None:
    host, pixels = vits.made(lambda: vits.vit(depth=4)), vits.images(vits.TILE)
    made = applied(
        host, "visual_words(keep=0.75)", "tome(r=1)", "skip_tokens(share=0.5, first=1, last=1)", "evit(keep=0.5, blocks=[3])", "ats"
    )
    made(pixels)
    assert len(made.model.policies) == 5
    assert made.model.vit.blocks is not None
    tokens = made.model.counted["tokens"]
    assert (tokens[:, 0] <= 12).all()
    assert (tokens[:, 1:3] < tokens[:, :1]).all()
    alone = [made(pixels[row : row + 1]) for row in range(vits.TILE)]
    assert torch.equal(torch.cat(alone), made(pixels))
