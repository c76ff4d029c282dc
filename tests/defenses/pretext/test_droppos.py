"""DropPos: its targets, its weights, what sees positions and what does not, and that it learns places."""

from __future__ import annotations

import math

import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.pretext.droppos import attentive_weights, drawn_patches, place_logits, place_targets, position_loss
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch, TrainingStep
from robustvit.primitives.draws import Draws

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = tuple("abcd")
SMALL = {"width": 16, "blocks": 1, "heads": 2}


def prepared(**params: object) -> nn.Module:
    torch.manual_seed(0)
    defense = rv.load_defense("droppos", **SMALL | params)
    return defense.prepare(
        vits.vit(depth=2, class_token=params.get("attentive", True), global_pool="token" if params.get("attentive", True) else "avg")
    )


def test_patches_are_shown_and_dropped_by_share() -> None:
    shown, dropped = drawn_patches(Draws(0, "s", [str(i) for i in range(500)]), 196, 0.75, 0.75)
    assert shown.shape == (500, 49)
    assert dropped.sum(dim=1).unique().tolist() == [37]
    assert all(len(set(row.tolist())) == 49 for row in shown[:20])
    assert torch.bincount(shown[dropped], minlength=196).float().std() / (500 * 37 / 196) < 0.2


def test_targets_fall_with_distance_and_sum_to_one() -> None:
    found = place_targets((14, 14), 1.0)
    assert torch.allclose(found.sum(dim=1), torch.ones(196, dtype=torch.float64))
    sums = [sum(math.exp(-((row - r) ** 2) - (column - c) ** 2) for r in range(14) for c in range(14)) for row, column in ((0, 0), (7, 7))]
    assert found[0, 0].item() == pytest.approx(1 / sums[0])
    assert found[7 * 14 + 7, 7 * 14 + 7].item() == pytest.approx(1 / sums[1])
    assert found[0, 14].item() == pytest.approx(math.exp(-1) / sums[0])
    assert (found[0, 0].item(), found[105, 105].item()) == pytest.approx((0.520, 0.318), abs=2e-3)
    assert torch.equal(place_targets((2, 3), 0.0), torch.eye(6, dtype=torch.float64))


def test_a_decoder_that_knows_nothing_costs_the_logarithm_of_the_number_of_places() -> None:
    vit = prepared()
    nn.init.zeros_(vit.position_decoder.place.weight)
    nn.init.zeros_(vit.position_decoder.place.bias)
    for sigma in (0.0, 1.0):
        defense = rv.load_defense("droppos", sigma=sigma, **SMALL)
        found = defense(rv.OnPixels(vit, (0.5,) * 3, (0.5,) * 3), Batch(IMAGES, torch.arange(4), IDS), Draws.for_step(0, 0, IDS))
        assert found.item() == pytest.approx(math.log(16), rel=1e-5)


def test_the_loss_is_a_weighted_mean_over_patches_without_position() -> None:
    logits, targets = torch.randn(2, 3, 4), torch.rand(2, 3, 4).softmax(dim=-1)
    weights = torch.tensor([[0.0, 0.2, 0.3], [0.0, 0.5, 0.0]])
    total = 0.0
    for row in range(2):
        for patch in range(3):
            total -= weights[row, patch].item() * sum((targets * logits.log_softmax(dim=-1))[row, patch].tolist())
    assert position_loss(logits, targets, weights).item() == pytest.approx(total / 1.0, rel=1e-5)


def test_patches_without_position_are_classified_alike_in_any_order() -> None:
    vit = prepared().eval()
    shown, dropped = drawn_patches(Draws(0, "s", IDS), 16, 0.5, 1.0)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    first = place_logits(vit, IMAGES, shown, dropped)
    assert torch.allclose(place_logits(vit, IMAGES, shown[:, order], dropped), first[:, order], atol=1e-5)


def test_positions_are_seen_where_they_are_kept_and_only_there() -> None:
    vit = prepared().eval()
    shown, dropped = drawn_patches(Draws(0, "s", IDS), 16, 0.5, 0.5)
    before = place_logits(vit, IMAGES, shown, dropped)
    everything = place_logits(vit, IMAGES, shown, torch.ones_like(dropped))
    with torch.no_grad():
        vit.pos_embed[:, 1:] += torch.randn(16, 24)
    assert not torch.allclose(place_logits(vit, IMAGES, shown, dropped), before, atol=1e-4)
    assert torch.allclose(place_logits(vit, IMAGES, shown, torch.ones_like(dropped)), everything, atol=1e-6)


def test_weights_are_the_softmax_of_cosines_with_the_class_token() -> None:
    vit = prepared().eval()
    encoded = vit.forward_features(IMAGES)
    expected = []
    for image in encoded:
        cosines = torch.stack([image[0] @ token / image[0].norm() / token.norm() for token in image[1:]])
        expected.append((cosines / 0.1).exp() / (cosines / 0.1).exp().sum())
    assert torch.allclose(attentive_weights(vit, IMAGES), torch.stack(expected), atol=1e-5)


def test_no_gradient_flows_into_positions_and_the_export_is_the_plain_structure() -> None:
    defense, vit = rv.load_defense("droppos", **SMALL), prepared()
    defense(rv.OnPixels(vit, (0.5,) * 3, (0.5,) * 3), Batch(IMAGES, torch.arange(4), IDS), Draws.for_step(0, 0, IDS)).backward()
    assert vit.pos_embed.grad is None
    assert vit.head.weight.grad is None
    assert vit.patch_embed.proj.weight.grad.abs().sum() > 0
    vits.vit(depth=2).load_state_dict(defense.export(vit).state_dict(), strict=True)
    assert hasattr(vit, "position_decoder")


def test_sigma_falls_by_epoch() -> None:
    vit = prepared(attentive=False)
    model = rv.OnPixels(vit, (0.5,) * 3, (0.5,) * 3).eval()
    batch, draws = Batch(IMAGES, torch.arange(4), IDS), Draws.for_step(0, 0, IDS)
    half = rv.load_defense("droppos", sigma=2.0, attentive=False, **SMALL)(model, batch.at(TrainingStep(5, 10, 4)), draws)
    whole = rv.load_defense("droppos", sigma=1.0, attentive=False, **SMALL)(model, batch.at(TrainingStep(0, 10, 4)), draws)
    assert torch.allclose(half, whole)


def test_it_learns_where_patches_are_whose_colours_say_so() -> None:
    vit = prepared(attentive=False).train()
    model = rv.OnPixels(vit, (0.5,) * 3, (0.5,) * 3)
    defense = rv.load_defense("droppos", mask=0.5, sigma=0.0, attentive=False, **SMALL)
    codes = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    batch = Batch(codes.expand(8, 3, 32, 32).contiguous(), torch.zeros(8, dtype=torch.int64), tuple("abcdefgh"))
    optimizer = torch.optim.AdamW([one for one in vit.parameters() if one.requires_grad], lr=3e-3)
    losses = []
    for step in range(120):
        optimizer.zero_grad()
        loss: Tensor = defense(model, batch, Draws.for_step(0, step, batch.ids))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2.0
    assert sum(losses[-10:]) / 10 < 0.5


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(HostRefused, match="choose attentive=false"):
        rv.load_defense("droppos", **SMALL).prepare(vits.pooled())
    with pytest.raises(HostRefused, match="choose a lower mask"):
        rv.load_defense("droppos", mask=0.99, **SMALL).prepare(vits.vit())
    with pytest.raises(BadParameter, match="width is 16, which 3 heads do not divide"):
        rv.load_defense("droppos", width=16, heads=3).prepare(vits.vit())
    with pytest.raises(BadParameter, match="drop"):
        rv.load_defense("droppos", drop=0)
