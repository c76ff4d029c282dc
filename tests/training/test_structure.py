"""What a defense leaves of a model's structure must be what a checkpoint names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustvit.errors import BadParameter
from robustvit.evaluation.loading import load_model
from robustvit.primitives.defense import Defense, compose
from robustvit.primitives.structure.token_aware_pooling import pool_before_attention
from robustvit.primitives.training.named_surgery import named_surgery
from robustvit.training.structure import structured

ADDRESS = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
POOLED = named_surgery("token_aware_pooling", scales=2)


def pooled(module: nn.Module) -> nn.Module:
    return pool_before_attention(module, 2)


def test_a_defense_that_changes_no_structure_leaves_the_very_model() -> None:
    start = load_model(ADDRESS)
    assert structured(start, Defense("loss", loss=lambda model, batch, draws: torch.zeros(()))) is start


def test_surgery_is_named_and_the_model_itself_stays() -> None:
    start = load_model(ADDRESS)
    names = list(start.model.state_dict())
    made = structured(start, Defense("pooled", prepare=pooled, surgery=POOLED))
    assert made.card.transforms == POOLED
    assert len(made.learned) == 1
    assert type(made.model.blocks[0].norm1).__name__ == "PooledNorm"
    assert list(start.model.state_dict()) == names


def test_surgery_that_is_not_what_the_defense_did_is_refused_before_training() -> None:
    start = load_model(ADDRESS)
    with pytest.raises(BadParameter, match=r"what 'nameless' leaves of .* could not be loaded again"):
        structured(start, Defense("nameless", prepare=pooled))
    with pytest.raises(BadParameter, match="could not be loaded again"):
        structured(start, Defense("other", prepare=pooled, surgery=named_surgery("token_aware_pooling", scales=3)))


def test_what_an_export_takes_back_needs_no_name() -> None:
    start = load_model(ADDRESS)

    def wrapped(module: nn.Module) -> nn.Module:
        return nn.Sequential(module)

    made = structured(start, Defense("wrapped", prepare=wrapped, export=lambda module: module[0]))
    assert made.card.transforms == ()
    assert torch.equal(made(torch.ones(1, 3, 32, 32)), start(torch.ones(1, 3, 32, 32)))


def test_the_surgery_of_composed_defenses_is_in_their_order() -> None:
    other = named_surgery("token_aware_pooling", scales=3)
    assert compose([Defense("a", surgery=POOLED), Defense("b"), Defense("c", surgery=other)]).surgery == (*POOLED, *other)
