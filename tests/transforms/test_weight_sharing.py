"""Weight sharing: which tensors are one, what they are, and what is counted once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import vits

from robustvit.errors import HostRefused
from robustvit.evaluation.cost.macs import count
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.shared_weights import shared_copy
from robustvit.transforms.low_rank import low_rank
from robustvit.transforms.pruning.head import head_pruning
from robustvit.transforms.pruning.magnitude import magnitude
from robustvit.transforms.weight_sharing import weight_sharing

LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def deep(depth: int = 5) -> Classifier:
    return vits.made(lambda: vits.vit(depth=depth, init_values=0.3))


def layers(model: Classifier, name: str) -> list[Any]:
    return [block.get_submodule(name) for block in model.model.blocks]


def numbers(model: Classifier) -> int:
    return sum(parameter.numel() for parameter in model.model.parameters())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("repeat", "groups"), [(2, [0, 0, 1, 1, 2]), (3, [0, 0, 0, 1, 1]), (9, [0] * 5), (1, [0, 1, 2, 3, 4])])
def test_consecutive_blocks_have_the_same_layers(name, repeat, groups) -> None:
    found = layers(weight_sharing(deep(), repeat=repeat), name)
    for one, group in zip(found, groups, strict=True):
        assert [other is one for other in found] == [other == group for other in groups]


@pytest.mark.parametrize("name", LAYERS)
def test_the_shared_weight_is_the_mean_of_the_group_or_that_of_its_first_block(name) -> None:
    host = deep(3)
    mean, first = (layers(weight_sharing(host, start=start), name) for start in ("mean", "first"))
    for part in ("weight", "bias"):
        own = [getattr(layer, part) for layer in layers(host, name)]
        assert torch.allclose(getattr(mean[0], part), (own[0] + own[1]) / 2)
        assert torch.equal(getattr(first[1], part), own[0])
        assert torch.equal(getattr(mean[2], part), own[2])


def test_norms_and_layer_scale_stay_each_blocks_own() -> None:
    host = deep(2)
    made = weight_sharing(host)
    for name in ("norm1", "norm2", "ls1", "ls2"):
        for one, other in zip(layers(made, name), layers(host, name), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        assert layers(made, name)[0] is not layers(made, name)[1]


def test_parameters_count_once_and_macs_stay() -> None:
    host, made = deep(4), weight_sharing(deep(4))
    block = 24 * 72 + 72 + 24 * 24 + 24 + 2 * 24 * 96 + 96 + 24
    assert numbers(made) == numbers(host) - 2 * block
    assert numbers(Classifier(shared_copy(made.model, "toy"), mean=(0.5,) * 3, std=(0.5,) * 3, view=host.view, card=host.card)) == numbers(
        made
    )
    assert count(made.model, (32, 32)) == count(host.model, (32, 32))


def test_logits_are_those_of_blocks_that_hold_equal_weights() -> None:
    host, made = deep(4), weight_sharing(deep(4))
    for name in LAYERS:
        own = layers(host, name)
        for first, second in (own[:2], own[2:]):
            for part in ("weight", "bias"):
                mean = (getattr(first, part) + getattr(second, part)) / 2
                getattr(first, part).copy_(mean)
                getattr(second, part).copy_(mean)
    assert torch.allclose(made(vits.images(3)), host(vits.images(3)), atol=1e-5)


def test_shared_layers_are_trained_together() -> None:
    module = shared_copy(weight_sharing(deep(2)).model, "toy").requires_grad_()
    step = torch.optim.SGD(module.parameters(), lr=0.1)
    module(vits.images(2)).square().sum().backward()
    step.step()
    assert module.blocks[0].attn.qkv.weight is module.blocks[1].attn.qkv.weight


@pytest.mark.parametrize("then", [
    magnitude, lambda model: low_rank(model, rank_share=0.25), lambda model: head_pruning(model, {}, amount=0.5),
    lambda model: head_pruning(model, {}, amount=0.5, remove=False), lambda model: weight_sharing(model, repeat=4),
])  # fmt: skip
def test_what_is_shared_stays_shared_through_other_transforms(then) -> None:
    made = then(weight_sharing(deep(4)))
    for name in LAYERS:
        found = layers(made, name)
        assert found[0] is found[1]
        assert found[2] is found[3]
    assert numbers(made) < 0.75 * numbers(deep(4))
    assert bool(torch.isfinite(made(vits.images(2))).all())


def test_of_pruned_layers_zeros_stay_where_all_are_zero() -> None:
    pruned = magnitude(deep(2), amount=0.8)
    first, second = (layer.weight_mask for layer in layers(pruned, "mlp.fc1"))
    assert torch.equal(layers(weight_sharing(pruned), "mlp.fc1")[1].weight != 0, first | second)


def test_a_state_dict_goes_round() -> None:
    made, other = weight_sharing(deep(2)), weight_sharing(deep(2), start="first")
    other.model.load_state_dict(made.model.state_dict())
    assert torch.equal(other(vits.images(2)), made(vits.images(2)))


def test_blocks_of_several_shapes_and_layers_without_a_mean_are_refused() -> None:
    host = deep(2)
    odd = host.model.blocks[1].mlp
    odd.fc1, odd.fc2 = torch.nn.Linear(24, 48), torch.nn.Linear(48, 24)
    with pytest.raises(HostRefused, match=r"'weight_sharing' does not take 'toy': the layers mlp\.fc1 of .* \(48, 24\), \(96, 24\)"):
        weight_sharing(host)
    with pytest.raises(HostRefused, match="no mean of layers that are a FactoredLinear; share weights before"):
        weight_sharing(low_rank(deep(2), rank_share=0.25))
    assert layers(weight_sharing(low_rank(deep(2), rank_share=0.25), start="first"), "attn.qkv")[0].down.out_features == 6
