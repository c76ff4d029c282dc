"""ScaleKD: its distances against a discrete cosine transform, its projection step by step, its limits, and what is trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import vits
from scipy import fft
from torch import Tensor, nn

import robustvit as rv
from robustvit.defenses.distillation.scalekd import FeatureProjector, feature_maps, frequency_distance, spatial_distance
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.training.structure import structured

IMAGES, IDS = vits.images(3), tuple("abc")
BATCH, DRAWS = Batch(IMAGES, torch.tensor([0, 1, 2]), IDS), Draws.for_step(0, 0, IDS)
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)  # those of vits.made


def host(make: Any = vits.pooled) -> Classifier:
    return vits.made(make, sharp=2.0)


def prepared(of: Classifier, student: Any = None, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(1)
    defense = rv.load_defense("scalekd", teacher=of, **{"heads": 2} | settings)
    return defense, defense.prepare(vits.vit(depth=2, embed_dim=16) if student is None else student)


def penalty_of(defense: Any, vit: nn.Module) -> Tensor:
    found: Tensor = defense.penalty(rv.OnPixels(vit, MEAN, STD), BATCH, DRAWS)
    return found


def by_transform(maps: Tensor) -> np.ndarray:
    """Maps (N, 16, D) of 4x4 patches without the first coefficient of their DCT-II."""
    found = fft.dctn(maps.double().numpy().reshape(len(maps), 4, 4, -1), axes=(1, 2))
    found[:, 0, 0] = 0
    return fft.idctn(found, axes=(1, 2)).reshape(maps.shape)


def test_distances_are_those_of_maps_and_of_maps_without_their_constant_part() -> None:
    found, goal = torch.randn(2, 3, 16, 6, generator=torch.Generator().manual_seed(0))
    for distance, seen in ((spatial_distance, lambda one: one.double().numpy()), (frequency_distance, by_transform)):
        mine, others = seen(found), seen(goal)
        expected = sum(
            ((mine[n, patch] / np.linalg.norm(mine[n, patch]) - others[n, patch] / np.linalg.norm(others[n, patch])) ** 2).sum()
            for n in range(3) for patch in range(16)
        )  # fmt: skip
        assert distance(found, goal).item() == pytest.approx(expected / 3, rel=1e-5)
        assert distance(found, found) == 0
    shifted = found + torch.randn(3, 1, 6)
    assert torch.allclose(frequency_distance(shifted, goal), frequency_distance(found, goal), rtol=1e-4)
    assert frequency_distance(torch.full((1, 16, 6), 0.3), torch.full((1, 16, 6), 0.7)) < 1e-3, "constant maps: but for rounding"
    assert spatial_distance(torch.full((1, 16, 6), 0.3), -torch.full((1, 16, 6), 0.7)).item() == pytest.approx(16 * 4)


class AsTheyAre(nn.Module):
    """A projector that changes nothing."""

    def forward(self, features: Tensor, queries: Tensor | None) -> Tensor:
        return features


@pytest.mark.parametrize("perceive", [True, False])
def test_a_student_that_is_the_teacher_costs_nothing_without_projection(perceive: bool) -> None:
    of = host()
    student = vits.pooled()
    student.load_state_dict(of.model.state_dict())
    defense, vit = prepared(of, student.eval(), perceive=perceive)
    for name in vit.feature_projectors:
        vit.feature_projectors[name] = AsTheyAre()
    assert penalty_of(defense, vit).item() == pytest.approx(0.0, abs=1e-8)
    with torch.no_grad():
        vit.blocks[1].mlp.fc2.weight.add_(0.1 * torch.randn_like(vit.blocks[1].mlp.fc2.weight))
    assert penalty_of(defense, vit).item() > 1e-3


def test_the_projection_step_by_step() -> None:
    of = host()
    made: Any = FeatureProjector(vits.vit(embed_dim=16), of.model, 2, 5.0, True).eval()
    nn.init.normal_(made.positions)
    features, found = torch.randn(1, 16, 16), []
    local = made.local(features.transpose(1, 2).reshape(1, 16, 4, 4))[0]
    keys = [local[:, place // 4, place % 4] + made.positions[:, place // 4, place % 4] for place in range(16)]
    for asked in made.queries:
        query, heads = made.query(torch.relu(made.before[0](asked))), []
        for part in (slice(0, 12), slice(12, 24)):
            scores = [5 * (query[part] @ made.key(key)[part]) / math.sqrt(12) for key in keys]
            weights = torch.stack(scores).softmax(dim=0)
            heads.append(sum(weight * made.value(key)[part] for weight, key in zip(weights, keys, strict=True)))
        normed = made.norm(made.out(torch.cat(heads)))
        found.append(normed + made.feed[2](torch.relu(made.feed[0](normed))))
    assert torch.allclose(made(features, None)[0], torch.stack(found), atol=1e-4)
    other: Any = FeatureProjector(vits.vit(embed_dim=16), of.model, 2, 5.0, False).eval()
    other.load_state_dict({name: one for name, one in made.state_dict().items() if name != "queries"})
    assert torch.allclose(other(features, made.queries[None]), made(features, None), atol=1e-6), "queries that are given"


def test_features_are_those_before_the_last_quarter_and_after_all() -> None:
    vit: Any = vits.vit(depth=5).eval()
    early, last = feature_maps(vit, vit, IMAGES)
    tokens = vit._pos_embed(vit.patch_embed(IMAGES))
    for block in vit.blocks[:4]:
        tokens = block(tokens)
    assert torch.allclose(early, tokens[:, 1:], atol=1e-5)
    assert torch.allclose(last, vit.forward_features(IMAGES)[:, 1:], atol=1e-5)
    assert not any(block._forward_hooks for block in vit.blocks)


def test_the_weights_of_the_distances() -> None:
    of = host()
    each = []
    for spatial, frequency in ((1.0, 0.0), (0.0, 1.0), (0.08, 0.06)):
        defense, vit = prepared(of, spatial=spatial, frequency=frequency)
        each.append(penalty_of(defense, vit.eval()).item())
    assert each[2] == pytest.approx(0.08 * each[0] + 0.06 * each[1], rel=1e-5)


def test_a_student_learns_through_the_teacher_that_stays_as_it_was() -> None:
    of = host(lambda: vits.vit(depth=4))
    before = {name: one.clone() for name, one in of.model.state_dict().items()}
    defense, vit = prepared(of)
    vit.train()
    optimizer = torch.optim.AdamW(vit.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(loss := penalty_of(defense, vit))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(one.grad is None for one in of.model.parameters())
    assert all(torch.equal(one, before[name]) for name, one in of.model.state_dict().items())
    assert vit.head.weight.grad is None
    unused = [name for name, one in vit.feature_projectors.named_parameters() if one.grad is None]
    assert not unused


def test_what_is_kept_is_the_student_alone() -> None:
    defense, vit = prepared(host())
    vits.vit(depth=2, embed_dim=16).load_state_dict(defense.export(vit).state_dict(), strict=True)
    assert hasattr(vit, "feature_projectors")
    kwargs = "img_size=32,patch_size=16,embed_dim=8,depth=1,num_heads=1"
    start = rv.load_model(f"vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs={kwargs}")
    assert structured(start, defense).card.transforms == ()


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(HostRefused, match="takes plain vision transformers of timm as teachers, and 'toy' is none: it is a Swin"):
        rv.load_defense("scalekd", teacher=host(vits.swin))
    with pytest.raises(HostRefused, match="the model to train is none"):
        prepared(host(), vits.small_cnn())
    with pytest.raises(BadParameter, match="the teacher's width is 24, which 5 heads do not divide"):
        prepared(host(), heads=5)
    with pytest.raises(HostRefused, match="takes models that call their blocks as a whole, which Identity does not"):
        feature_maps(vits.vit(), nn.Identity(), IMAGES)
