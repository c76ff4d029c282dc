"""N:M sparsity: exact counts in every group, against a loop."""

from __future__ import annotations

import pytest
import torch
import vits
from torch import nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.surgery.masks import MaskedWeight
from robustvit.transforms.pruning.semi_structured import largest_of_groups, semi_structured


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (3, 3), (1, 2)])
@pytest.mark.parametrize("make", ["plain", "swin", "eva", "cnn"])
def test_every_group_keeps_exactly_n_of_m(n, m, make) -> None:
    if (n, m) == (3, 3):
        make = "plain"
    host = vits.made(vits.HOSTS[make])
    found = [layer for layer in semi_structured(host, n=n, m=m).model.modules() if isinstance(layer, MaskedWeight)]
    assert found
    for layer in found:
        kept = (layer.weight != 0).transpose(0, 1).flatten(1).t()
        assert bool((kept.unflatten(1, (-1, m)).sum(dim=2) == n).all())


def test_the_largest_of_a_group_are_kept() -> None:
    host = vits.made(vits.vit)
    weight, made = host.model.blocks[1].mlp.fc2.weight, semi_structured(host).model.blocks[1].mlp.fc2.weight
    expected = torch.zeros_like(weight)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], 4):
            for column in sorted(range(start, start + 4), key=lambda place: float(weight[row, place].abs()))[2:]:
                expected[row, column] = weight[row, column]
    assert torch.equal(made, expected)


def test_of_equal_weights_the_later_are_kept() -> None:
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 3.0, 1.0]])
    assert largest_of_groups(scores, 2, 4).int().tolist() == [[0, 0, 1, 1, 1, 0, 1, 0]]


def test_more_than_there_are_and_sizes_that_do_not_divide_are_refused() -> None:
    host = vits.made(vits.vit)
    with pytest.raises(BadParameter, match="n is 5 and m is 4"):
        semi_structured(host, n=5)
    with pytest.raises(HostRefused, match=r"a multiple of m = 7, and 'blocks\.0\.attn\.qkv' of 'toy' has 24"):
        semi_structured(host, n=2, m=7)


def test_two_passes_keep_what_one_kept() -> None:
    once = semi_structured(vits.made(vits.vit))
    twice = semi_structured(once)
    assert all(
        torch.equal(one.weight, other.weight)
        for one, other in zip(once.model.modules(), twice.model.modules(), strict=True)
        if isinstance(one, nn.Linear)
    )
