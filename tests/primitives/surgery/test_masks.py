"""Masks that are part of a layer: through training, copies, saving and further masks."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import HostRefused
from robustvit.primitives.shared_weights import shared_copy
from robustvit.primitives.surgery.masks import MaskedWeight, mask_weight, smallest

KEEP = torch.tensor([[True, False, True], [False, True, True]])


def layer() -> nn.Linear:
    made = nn.Linear(3, 2)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    return made


def masked(keep: Tensor = KEEP) -> nn.Linear:
    made = layer()
    mask_weight(made, keep)
    return made


def test_a_masked_layer_is_of_its_own_class_and_its_weight_is_masked_wherever_it_is_read() -> None:
    made, tokens = masked(), torch.rand(4, 3)
    expected = torch.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 6.0]])
    assert isinstance(made, nn.Linear)
    assert torch.equal(made.weight, expected)
    assert torch.equal(made(tokens), functional.linear(tokens, expected, made.bias))


def test_what_was_given_is_not_written_into() -> None:
    host = layer()
    made = shared_copy(host, "toy")
    mask_weight(made, KEEP)
    assert made.weight_orig.data_ptr() == host.weight.data_ptr()
    assert torch.equal(host.weight, layer().weight)


def test_training_moves_kept_weights_alone() -> None:
    made = masked()
    step = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        step.zero_grad()
        made(torch.ones(1, 3)).sum().backward()
        step.step()
    assert torch.equal(made.weight != 0, KEEP)
    assert bool((made.weight != masked().weight)[KEEP].all())
    assert torch.equal(made.weight_orig.grad, KEEP.float())


def test_a_layer_whose_forward_pass_reads_the_weight_elsewhere_trains_no_zero() -> None:
    """As timm's EVA attention does."""
    made = masked()
    functional.linear(torch.ones(1, 3), made.weight).sum().backward()
    assert torch.equal(made.weight_orig.grad, KEEP.float())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_have_a_mask_of_their_own(copied) -> None:
    made = masked()
    other = copied(made)
    assert type(other) is type(made)
    assert torch.equal(other.weight, made.weight)
    with torch.no_grad():
        other.weight_orig.zero_()
        other.weight_mask.zero_()
    assert torch.equal(made.weight, masked().weight)


def test_a_state_dict_holds_weights_and_mask() -> None:
    made, other = masked(), masked(torch.ones(2, 3, dtype=torch.bool))
    assert set(made.state_dict()) == {"weight_orig", "weight_mask", "bias"}
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.weight, made.weight)


def test_a_second_mask_keeps_what_both_keep() -> None:
    made = masked()
    before = made.weight_mask
    mask_weight(made, torch.tensor([[False, True, True], [True, True, True]]))
    assert torch.equal(made.weight_mask, torch.tensor([[False, False, True], [False, True, True]]))
    assert torch.equal(before, KEEP)


def test_bytes_are_those_of_the_non_zeros_a_bitmap_and_the_bias() -> None:
    made = masked()
    assert made.weight_bytes() == 4 * 4 + 1 + 2 * 4
    assert made.double().weight_bytes() == 4 * 8 + 1 + 2 * 8
    large = nn.Linear(5, 5, bias=False)
    mask_weight(large, torch.eye(5, dtype=torch.bool))
    assert large.weight_bytes() == 5 * 4 + 4


def test_masks_go_to_the_meta_device_and_to_float64() -> None:
    made = masked().double()
    assert made.weight.dtype == torch.float64
    assert made.to("meta").weight.shape == (2, 3)


def test_convolutions_and_norms_have_masks_too() -> None:
    for made, images in ((nn.Conv2d(1, 2, 2), torch.rand(1, 1, 4, 4)), (nn.LayerNorm(4), torch.rand(1, 4))):
        mask_weight(made, torch.zeros_like(made.weight, dtype=torch.bool))
        bias = made.bias.view(-1, 1, 1) if isinstance(made, nn.Conv2d) else made.bias
        assert torch.allclose(made(images), bias.expand_as(made(images)))
        assert isinstance(made, MaskedWeight)


def test_a_layer_without_a_weight_is_refused() -> None:
    with pytest.raises(HostRefused, match="a ReLU has no parameter"):
        mask_weight(nn.ReLU(), KEEP)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 8])
def test_the_smallest_are_exactly_so_many_and_ties_go_by_index(count) -> None:
    scores = torch.tensor([[2.0, 1.0, 2.0, 0.0], [2.0, 5.0, 1.0, 2.0]])
    expected = sorted(range(8), key=lambda place: (float(scores.flatten()[place]), place))[:count]
    assert smallest(scores, count).flatten().nonzero().flatten().tolist() == sorted(expected)
