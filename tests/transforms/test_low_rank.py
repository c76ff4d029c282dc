"""Low-rank linear layers, against numpy's SVD, closed forms of MACs and a slow search of the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vits
from torch import nn

from robustvit.evaluation.cost.macs import count
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.factored import FactoredLinear
from robustvit.primitives.surgery.masks import MaskedWeight
from robustvit.transforms.low_rank import decompose, low_rank, ranks_within
from robustvit.transforms.pruning.magnitude import magnitude

TOKENS, WIDTH, DEPTH = 17, 24, 3
SHAPES = {"attn.qkv": (72, 24), "attn.proj": (24, 24), "mlp.fc1": (96, 24), "mlp.fc2": (24, 96)}


def layers(model: Classifier) -> dict[str, nn.Module]:
    return {f"blocks.{i}.{name}": block.get_submodule(name) for i, block in enumerate(model.model.blocks) for name in SHAPES}


def truncated(weight: torch.Tensor, rank: int) -> np.ndarray:
    left, values, right = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    return sum(values[i] * np.outer(left[:, i], right[i]) for i in range(rank))


@pytest.mark.parametrize(("share", "rank"), [(0.01, 1), (0.25, 6), (0.5, 12), (0.75, 18)])
def test_weights_are_the_nearest_of_their_rank_and_biases_stay(share, rank) -> None:
    host = vits.made(vits.vit)
    found = layers(low_rank(host, rank_share=share))
    for name, layer in layers(host).items():
        assert np.allclose(found[name].weight.numpy(), truncated(layer.weight, rank), atol=1e-4)
        assert torch.equal(found[name].bias, layer.bias)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 1.0])
def test_there_are_two_factors_only_where_that_saves(share) -> None:
    rank = round(24 * share)
    for name, layer in layers(low_rank(vits.made(vits.vit), rank_share=share)).items():
        out, into = SHAPES[name.split(".", 2)[2]]
        assert isinstance(layer, FactoredLinear if rank * (out + into) < out * into else nn.Linear)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_macs_fall_as_the_ranks_say(share) -> None:
    host, rank = vits.made(vits.vit), round(24 * share)
    saved = sum(TOKENS * (out * into - min(out * into, rank * (out + into))) for out, into in SHAPES.values()) * DEPTH
    assert count(low_rank(host, rank_share=share).model, (32, 32)).macs == count(host.model, (32, 32)).macs - saved


@pytest.mark.parametrize("make", ["plain", "eva", "swin"])
def test_macs_fall_on_other_hosts(make) -> None:
    host = vits.made(vits.HOSTS[make])
    assert count(low_rank(host, rank_share=0.25).model, (32, 32)).macs < 0.75 * count(host.model, (32, 32)).macs


def test_all_singular_values_together_are_the_weight() -> None:
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    up, down = decompose(weight).factors(20)
    assert torch.allclose(up @ down, weight, atol=1e-5)


@pytest.mark.parametrize("budget", [0.05, 0.2, 0.4, 0.6, 0.9, 1.0])
def test_a_budget_gives_the_largest_common_share_of_energy(budget) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(12, 8), (8, 8), (6, 20)]
    values = [torch.rand(min(shape), generator=generator).sort(descending=True).values ** 2 for shape in shapes]

    def cost(level: float) -> tuple[float, list[int | None]]:
        ranks: list[int | None] = []
        for one in values:
            rank = 1
            while float(one[:rank].double().sum() / one.double().sum()) < level:
                rank += 1
            ranks.append(rank)
        ranks = [None if rank * sum(shape) >= shape[0] * shape[1] else rank for rank, shape in zip(ranks, shapes, strict=True)]
        return sum(s[0] * s[1] if r is None else r * sum(s) for r, s in zip(ranks, shapes, strict=True)), ranks

    most = budget * sum(out * into for out, into in shapes)
    fitting = [ranks for level in np.linspace(1e-9, 1 - 1e-9, 2001) for weights, ranks in [cost(level)] if weights <= most]
    assert ranks_within(values, shapes, budget) == (fitting[-1] if fitting else [1, 1, 1])


@pytest.mark.parametrize("budget", [0.3, 0.7])
def test_a_budget_is_kept_by_the_model(budget) -> None:
    host = vits.made(vits.vit)
    made = low_rank(host, budget=budget)
    weights = sum(part.weight.numel() for layer in layers(made).values() for part in layer.children())
    assert weights <= budget * sum(layer.weight.numel() for layer in layers(host).values()) < weights * 1.3
    assert torch.allclose(low_rank(host, budget=1.0)(vits.images(2)), host(vits.images(2)), atol=1e-5)


def test_a_budget_is_of_squared_singular_values() -> None:
    host = vits.made(vits.vit)
    weights = [layer.weight for layer in layers(host).values()]
    energies = [torch.from_numpy(np.linalg.svd(weight.double().numpy(), compute_uv=False) ** 2) for weight in weights]
    expected = ranks_within(energies, [tuple(weight.shape) for weight in weights], 0.6)
    found = layers(low_rank(host, budget=0.6)).values()
    assert [layer.down.out_features if "down" in layer._modules else None for layer in found] == expected


@pytest.mark.parametrize("then", [lambda model: model, magnitude])
def test_ranks_are_loaded_with_a_state_dict(then) -> None:
    host, other = vits.made(vits.vit), vits.made(vits.vit)
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            if "blocks.1" in name and parameter.ndim == 2:
                parameter.copy_(parameter[:1] + 0.1 * parameter)
    made, empty = then(low_rank(other, budget=0.85)), then(low_rank(host, budget=0.85))
    forms = [{name: tuple(tensor.shape) for name, tensor in one.model.state_dict().items()} for one in (made, empty)]
    assert forms[0] != forms[1]
    assert any("whole" in name for name in forms[0].keys() - forms[1].keys())
    expected, former = made(vits.images(3)), {name: tensor.clone() for name, tensor in empty.model.state_dict().items()}
    before = empty(vits.images(3))
    empty.model.load_state_dict(made.model.state_dict())
    assert torch.equal(empty(vits.images(3)), expected)
    made.model.load_state_dict(former)
    assert torch.equal(made(vits.images(3)), before)


def test_factors_are_pruned_in_their_turn() -> None:
    made = magnitude(low_rank(vits.made(vits.vit), rank_share=0.25), amount=0.5)
    layer = layers(made)["blocks.0.attn.qkv"]
    assert isinstance(layer, FactoredLinear)
    assert all(isinstance(part, MaskedWeight) for part in layer.children())
