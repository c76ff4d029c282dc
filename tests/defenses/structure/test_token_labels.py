"""Token-label alignment against loops, and its limits."""

from __future__ import annotations

import pytest
import torch
import vits
from torch import nn
from torch.nn import functional

import robustvit as rv
from robustvit.defenses.structure.token_labels import aligned, labels_of_tokens, mix_patches
from robustvit.errors import HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.training.attention import trained_attention

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.arange(6) % 5, tuple("abcdef"))


def network(**more: object) -> nn.Module:
    return vits.made(lambda: vits.vit(depth=2, **more)).model.requires_grad_(True)


def test_boxes_are_of_whole_patches_of_the_row_from_the_end() -> None:
    mixed = mix_patches(IMAGES, Draws.for_step(0, 1, BATCH.ids), (4, 4))
    areas = mixed.inside.flatten(1).sum(dim=1)
    assert len(set(areas.tolist())) > 2
    for row in range(6):
        for down in range(4):
            for right in range(4):
                patch = (slice(None), slice(8 * down, 8 * down + 8), slice(8 * right, 8 * right + 8))
                source = 5 - row if mixed.inside[row, down, right] else row
                assert torch.equal(mixed.images[row][patch], IMAGES[source][patch])


def test_boxes_have_the_area_that_is_drawn_where_the_edge_cuts_nothing() -> None:
    ids = [str(row) for row in range(3000)]
    draws = Draws.for_step(0, 0, ids)
    share, down, right = draws.uniform(3).unbind(dim=1)
    inside = mix_patches(torch.zeros(3000, 1, 20, 20), draws, (20, 20)).inside
    side = 20 * (1 - share).sqrt()
    whole = (20 * down >= side / 2 + 1) & (20 * down <= 19 - side / 2) & (20 * right >= side / 2 + 1) & (20 * right <= 19 - side / 2)
    areas = inside.flatten(1).sum(dim=1)[whole]
    expected = (2 * (side[whole].int() // 2)) ** 2
    assert int(whole.sum()) > 300
    assert torch.equal(areas, expected.long())


def test_labels_of_tokens_are_those_of_the_image_that_they_are_from() -> None:
    labels = torch.eye(4)
    inside = torch.zeros(4, 2, 2, dtype=torch.bool)
    inside[1, 0, 1] = True
    found = labels_of_tokens(labels, inside, 2)
    assert torch.equal(found[1, 2:], torch.stack([labels[1], labels[2], labels[1], labels[1]]))
    assert torch.equal(found[1, 0], 0.75 * labels[1] + 0.25 * labels[2])
    assert torch.equal(found[0], labels[0].expand(6, 4))


def test_labels_are_averaged_as_tokens_are_block_by_block() -> None:
    maps = [torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1) for seed in range(2)]
    labels = torch.rand(2, 5, 4).softmax(dim=-1)
    expected = labels.clone()
    for found in maps:
        before = expected.clone()
        for image in range(2):
            for query in range(5):
                mixed = sum(found[image, head, query, key] / 3 * before[image, key] for head in range(3) for key in range(5))
                expected[image, query] = (before[image, query] + mixed) / 2
    made = aligned(labels, maps)
    assert torch.allclose(made, expected, atol=1e-6)
    assert torch.allclose(made.sum(dim=-1), torch.ones(2, 5), atol=1e-6)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_loss_is_cross_entropy_with_what_attention_carries_to_the_output(pool: str) -> None:
    module = network() if pool == "token" else network(class_token=False, global_pool="avg")
    draws = Draws.for_step(0, 3, BATCH.ids)
    mixed = mix_patches(IMAGES, draws.at("loss"), (4, 4))
    logits, maps = trained_attention(module, mixed.images)
    smooth = functional.one_hot(BATCH.labels, 5) * 0.8 + 0.2 / 5
    carried = aligned(labels_of_tokens(smooth, mixed.inside, 1 if pool == "token" else 0), maps)
    target = carried[:, 0] if pool == "token" else carried.mean(dim=1)
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert torch.allclose(rv.load_defense("token_labels", smoothing=0.2)(module, BATCH, draws), expected, atol=1e-6)


def test_an_image_that_is_its_own_partner_has_its_own_label() -> None:
    alone = BATCH[torch.tensor([2])]
    module = network()
    found = rv.load_defense("token_labels", smoothing=0.0)(module, alone, Draws.for_step(0, 0, alone.ids))
    assert torch.allclose(found, functional.cross_entropy(module(alone.images), alone.labels), atol=1e-6)


def test_models_that_pool_otherwise_are_refused() -> None:
    with pytest.raises(HostRefused, match="this one pools otherwise"):
        rv.load_defense("token_labels").prepare(vits.distilled())
