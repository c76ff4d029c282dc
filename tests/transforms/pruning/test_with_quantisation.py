"""Pruning then quantising, and quantising then pruning: both are models, and zeros stay zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import vits
from torch import nn

from robustvit.errors import HostRefused
from robustvit.evaluation.cost.macs import count
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.masks import MaskedWeight
from robustvit.transforms.low_rank import low_rank
from robustvit.transforms.pruning.block import block_pruning
from robustvit.transforms.pruning.dimap import dimap
from robustvit.transforms.pruning.head import head_pruning
from robustvit.transforms.pruning.magnitude import magnitude
from robustvit.transforms.pruning.semi_structured import semi_structured
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.quantisation.weights import half_precision, quantize
from robustvit.transforms.weight_sharing import weight_sharing

Step = Callable[[Classifier], Classifier]
MASKS: dict[str, Step] = {
    "magnitude": magnitude, "semi_structured": semi_structured, "dimap": dimap,
    "block": lambda model: block_pruning(model, {}, block=8), "heads": lambda model: head_pruning(model, {}, amount=0.5, remove=False),
}  # fmt: skip
SMALLER: dict[str, Step] = {
    "heads": lambda model: head_pruning(model, {}, amount=0.5), "low_rank": lambda model: low_rank(model, rank_share=0.4),
    "sharing": weight_sharing,
}  # fmt: skip
QUANTISERS: dict[str, Step] = {
    "int8": quantize, "int4": lambda model: quantize(model, bits=4), "asymmetric": lambda model: quantize(model, bits=5, symmetric=False),
    "groups": lambda model: quantize(model, bits=4, granularity="group", group=7), "half": half_precision, "dynamic": dynamic_int8,
}  # fmt: skip
masks = pytest.mark.parametrize("prune", MASKS.values(), ids=MASKS)
quantisers = pytest.mark.parametrize("quantise", QUANTISERS.values(), ids=QUANTISERS)


def masked(model: Classifier) -> dict[str, Any]:
    return {name: layer for name, layer in model.model.named_modules() if isinstance(layer, MaskedWeight)}


@quantisers
@masks
def test_zeros_stay_zeros_when_a_pruned_model_is_quantised(prune, quantise) -> None:
    pruned = prune(vits.made(vits.vit))
    both = quantise(pruned)
    assert masked(both).keys() == masked(pruned).keys()
    for name, layer in masked(both).items():
        assert torch.equal(layer.weight_mask, masked(pruned)[name].weight_mask)
        assert not bool(layer.weight[~layer.weight_mask].any())
        assert bool(layer.weight.any())
        assert not torch.equal(layer.weight, masked(pruned)[name].weight)
    assert 1e-6 < float((both(vits.images(3)) - pruned(vits.images(3))).abs().max()) < 50


@quantisers
@masks
def test_what_is_left_of_a_quantised_model_is_still_on_its_grid(prune, quantise) -> None:
    quantised = quantise(vits.made(vits.vit))
    both = prune(quantised)
    assert masked(both)
    for name, layer in masked(both).items():
        expected = quantised.model.get_submodule(name).weight
        assert torch.equal(layer.weight, expected.masked_fill(~layer.weight_mask, 0.0))
        assert bool((~layer.weight_mask).any())
    sizes = [sum(one.model.get_submodule(name).weight_bytes() for name in masked(both)) for one in (both, quantised)]
    assert sizes[0] < sizes[1]
    assert not torch.equal(both(vits.images(3)), quantised(vits.images(3)))


@quantisers
@pytest.mark.parametrize("first", ["prune", "quantise"])
def test_a_third_transform_can_follow(quantise, first) -> None:
    host = vits.made(vits.vit)
    both = quantise(magnitude(host)) if first == "prune" else magnitude(quantise(host))
    third = magnitude(both, amount=0.7)
    assert count(both.model, (32, 32)) == count(host.model, (32, 32))
    for name, layer in masked(both).items():
        later = third.model.get_submodule(name).weight
        assert torch.equal(later[later != 0], layer.weight[later != 0])
    kept = sum(int((layer.weight != 0).sum()) for layer in masked(third).values())
    assert kept <= 0.3 * sum(layer.weight.numel() for layer in masked(third).values()) + 1


@pytest.mark.parametrize("shrink", SMALLER.values(), ids=SMALLER)
@quantisers
def test_smaller_models_are_quantised(shrink, quantise) -> None:
    smaller = shrink(vits.made(vits.vit))
    both = quantise(smaller)
    layers = [(name, layer) for name, layer in smaller.model.named_modules() if isinstance(layer, nn.Linear)]
    assert all(not torch.equal(both.model.get_submodule(name).weight, layer.weight) for name, layer in layers)
    assert 1e-6 < float((both(vits.images(3)) - smaller(vits.images(3))).abs().max()) < 50


@pytest.mark.parametrize("shrink", SMALLER.values(), ids=SMALLER)
@quantisers
def test_quantised_layers_are_not_made_smaller_in_silence(shrink, quantise) -> None:
    with pytest.raises(HostRefused, match=r"(quantise|prune|share weights) (after|before) (this|that) transform"):
        shrink(quantise(vits.made(vits.vit)))


def test_quantised_layers_that_are_equal_are_shared() -> None:
    made = weight_sharing(quantize(vits.made(vits.vit)), start="first")
    assert made.model.blocks[0].attn.qkv is made.model.blocks[1].attn.qkv
