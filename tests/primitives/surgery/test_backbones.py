"""How much of a backbone a victim still has."""

from __future__ import annotations

import copy

import pytest
import torch
import vits
from torch import nn

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around
from robustvit.primitives.structure.adapters import adapt_blocks
from robustvit.primitives.structure.side_network import add_side_network
from robustvit.primitives.surgery.backbones import share_changed


@pytest.fixture
def backbone() -> Classifier:
    return vits.made(vits.HOSTS["plain"])


def of(backbone: Classifier, change) -> Classifier:
    module = copy.deepcopy(backbone.model)
    with torch.no_grad():
        made = change(module)
    return around(backbone, made if isinstance(made, nn.Module) else module)


def body(module: nn.Module) -> int:
    return sum(one.numel() for name, one in module.named_parameters() if not name.startswith("head."))


def test_a_model_shares_all_of_itself_and_its_head_does_not_count(backbone: Classifier) -> None:
    assert share_changed(backbone, backbone) == 0
    assert share_changed(of(backbone, lambda module: module.head.weight.add_(1) is None), backbone) == 0
    assert share_changed(of(backbone, lambda module: setattr(module, "head", nn.Linear(24, 9))), backbone) == 0


def test_numbers_that_differ_are_counted_one_by_one(backbone: Classifier) -> None:
    def three(module: nn.Module) -> None:
        module.blocks[1].attn.qkv.weight[0, :3] += 1

    assert share_changed(of(backbone, three), backbone) == pytest.approx(3 / body(backbone.model))


def test_what_is_beside_or_around_frozen_weights_changes_none(backbone: Classifier) -> None:
    assert share_changed(of(backbone, lambda module: adapt_blocks(module, 4, 0.1)), backbone) == 0
    assert share_changed(of(backbone, lambda module: add_side_network(module, 8)), backbone) == 0


def test_changes_below_a_wrapper_are_counted(backbone: Classifier) -> None:
    def wrapped(module: nn.Module) -> nn.Module:
        made = adapt_blocks(module, 4, 0.1)
        made.blocks[0].mlp.mlp.fc1.weight.add_(1)
        made.blocks[0].norm1.bias.add_(1)
        return add_side_network(made, 8)

    victim = of(backbone, wrapped)
    assert share_changed(victim, backbone) == pytest.approx((96 * 24 + 24) / body(backbone.model))


def test_another_model_shares_at_most_constants(backbone: Classifier) -> None:
    other = vits.made(vits.HOSTS["swin"])
    assert 0.9 < share_changed(other, backbone) <= 1


def test_a_backbone_of_a_head_alone_is_refused(backbone: Classifier) -> None:
    bare = around(backbone, nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)))
    with pytest.raises(ModelError, match="nothing of it can be in another"):
        share_changed(backbone, bare)
