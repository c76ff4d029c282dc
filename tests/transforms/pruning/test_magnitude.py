"""Magnitude pruning, against torch.nn.utils.prune and by exact counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import vits
from torch import nn
from torch.nn.utils import prune

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.layer_roles import weight_layers
from robustvit.primitives.surgery.masks import MaskedWeight
from robustvit.transforms.pruning.magnitude import magnitude

INNER = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def inner(model: Classifier) -> list[nn.Linear]:
    """The linear layers of a plain ViT's blocks."""
    return [block.get_submodule(name) for block in model.model.blocks for name in INNER]


def pruned_by_torch(amount: float, scope: str) -> list[torch.Tensor]:
    layers = inner(vits.made(vits.vit))
    if scope == "global":
        prune.global_unstructured([(one, "weight") for one in layers], prune.L1Unstructured, amount=amount)
    else:
        for one in layers:
            prune.l1_unstructured(one, "weight", amount=amount)
    return [one.weight for one in layers]


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_weights_are_those_of_torch(amount, scope) -> None:
    found = inner(magnitude(vits.made(vits.vit), amount=amount, scope=scope))
    for one, expected in zip(found, pruned_by_torch(amount, scope), strict=True):
        assert torch.equal(one.weight, expected)


def test_zeros_are_counted_exactly_although_all_weights_are_alike() -> None:
    host = vits.made(vits.vit)
    for layer in inner(host):
        layer.weight.fill_(1.0)
    found = inner(magnitude(host, amount=0.3))
    total = sum(layer.weight.numel() for layer in found)
    zeros = torch.cat([layer.weight.flatten() == 0 for layer in found])
    assert zeros.sum() == round(0.3 * total)
    assert bool(zeros[: round(0.3 * total)].all())


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, {"qkv", "proj", "fc1", "fc2"}),
    ({"include": ("head",)}, {"qkv", "proj", "fc1", "fc2", "head"}),
    ({"include": ("embedding", "norm")}, {"qkv", "proj", "fc1", "fc2", "patch_embed", "norm1", "norm2", "norm"}),
    ({"layers": ("qkv", "mlp.fc2")}, {"qkv", "fc2"}),
    ({"layers": ("blocks.1.*",)}, {"qkv", "proj", "fc1", "fc2"}),
    ({"layers": ("head",)}, {"head"}),
])  # fmt: skip
def test_layers_that_are_pruned(settings: dict[str, Any], expected) -> None:
    found = magnitude(vits.made(vits.vit), **settings).model
    names = [name for name, layer in found.named_modules() if isinstance(layer, MaskedWeight)]
    assert {"patch_embed" if name == "patch_embed.proj" else name.rpartition(".")[2] for name in names} == expected
    assert all(name.startswith("blocks.1.") for name in names) or settings.get("layers") != ("blocks.1.*",)


def test_a_layer_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadParameter, match=r"no layer of 'toy' is called 'qkw'\. Did you mean 'qkv'\? There are fc1, fc2"):
        magnitude(vits.made(vits.vit), layers=("qkw",))


def test_pruning_twice_is_pruning_once() -> None:
    once = magnitude(vits.made(vits.vit), amount=0.5)
    twice = magnitude(once, amount=0.5)
    assert all(torch.equal(one.weight, other.weight) for one, other in zip(inner(once), inner(twice), strict=True))


@pytest.mark.parametrize(("make", "roles"), [
    (vits.vit, {"patch_embed.proj": "embedding", "blocks.0.attn.qkv": "qkv", "blocks.0.attn.proj": "projection",
                "blocks.2.mlp.fc2": "mlp", "blocks.0.norm1": "norm", "head": "head"}),
    (vits.distilled, {"head_dist": "head", "head": "head"}),
    (vits.swin, {"patch_embed.proj": "embedding", "layers.1.downsample.reduction": "downsampling", "head.fc": "head"}),
    (vits.eva, {"blocks.1.attn.qkv": "qkv", "blocks.1.mlp.fc1": "mlp", "head": "head"}),
    (vits.small_cnn, {"0": "embedding", "3": "other", "7": "head"}),
    (vits.Torchs, {"embed": "embedding", "blocks.layers.0.linear1": "mlp", "blocks.layers.0.self_attn.out_proj": "projection"}),
    (vits.HuggingFace, {"inner.vit.embeddings.patch_embeddings.projection": "embedding", "inner.classifier": "head"}),
    (lambda: vits.Wrapped("classifier"), {"classifier.blocks.0.attn.qkv": "qkv", "classifier.head": "head"}),
    (lambda: vits.Wrapped("head"), {"head.blocks.0.attn.qkv": "qkv", "head.patch_embed.proj": "embedding", "head.head": "head"}),
])  # fmt: skip
def test_roles_of_layers(make, roles) -> None:
    host = vits.made(make)
    found = {one.name: one.role for one in weight_layers(host, host.model)}
    assert {name: found[name] for name in roles} == roles
